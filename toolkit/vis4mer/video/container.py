"""Opens untrusted files: exactly one regular local file, which must be a self-contained movie."""

import errno
import os
import stat
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from vis4mer.errors import VideoError
from vis4mer.video import boxes
from vis4mer.video.ffmpeg import ContentError, content_call

# Demuxers of self-contained movie files. Playlists, scripts and image sequences (hls, dash, concat, sdp, image2, ...)
# are left out because they name further files or addresses, which a hostile file could use to read or contact them.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska,webm",
    *("apng", "asf", "av1", "avi", "cavsvideo", "dv", "flv", "gif", "gxf", "h261", "h263", "h264", "hevc", "ivf"),
    *("m4v", "mjpeg", "mpeg", "mpegts", "mpegvideo", "mxf", "nut", "obu", "ogg", "rm", "swf", "vc1", "vvc", "wtv"),
    "yuv4mpegpipe",
)
MAX_PIXELS = 1 << 26  # pixels of a picture: 8192 x 8192, twice 8K; some bytes per pixel are in memory at a time
# Seconds for opening a file, and for finding a packet in it: a terabyte of rubbish would be searched for an hour.
# Slow network storage answers within a few seconds.
_READ_SECONDS = 20
MAX_GAP_BYTES = 256 << 20  # bytes of a file that may be missing on the disk even if they are most of it

_STREAM_OPTIONS = {"max_pixels": str(MAX_PIXELS)}
# The first list keeps FFmpeg from the network, and the second one from formats that name other local files.
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": ",".join(_FORMATS)}


def open_container(path: str | os.PathLike[str]) -> InputContainer:
    """Opens a movie file for demuxing.

    The path is never interpreted as an address or a pattern, and no content makes FFmpeg open another file or host.

    Args:
        path: Path of the file.

    Raises:
        VideoError: The path is not a readable regular file, or the file is not a movie.
    """
    name = os.fspath(path)
    try:
        _require_regular_file(name)
        _require_bounded_content(name)
        return _open_file(name)
    except (ContentError, OSError, ValueError) as error:
        raise VideoError.of("video", name, *_rule_and_remedy(name, error)) from None


class _NotRegularError(OSError):
    """The path is a folder, FIFO, socket or device; opening some of these would block or never end."""

    def __init__(self, rule: str, remedy: str) -> None:
        super().__init__(rule)
        self.rule, self.remedy = rule, remedy


def _require_regular_file(name: str) -> None:
    mode = Path(name).stat().st_mode
    if stat.S_ISDIR(mode):
        raise _NotRegularError("is a folder", "pass the movie files in it")
    if not stat.S_ISREG(mode):
        raise _NotRegularError("is a FIFO, socket or device", "pass a regular movie file")


class _ExcessError(ValueError):
    """The file announces more than it can hold, or holds less than its size, or nothing."""


def _require_bounded_content(name: str) -> None:
    with Path(name).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise _ExcessError("is empty")
        if excess := boxes.excess(file, size):
            raise _ExcessError(excess)
        gaps = _gap_bytes(file.fileno(), size)
        # An incomplete download is read as far as it goes, but a file that is mostly empty is searched for too long.
        if gaps > max(MAX_GAP_BYTES, size // 2):
            raise _ExcessError(f"{gaps >> 20:,} of its {size >> 20:,} MiB were never written")


def _gap_bytes(descriptor: int, size: int) -> int:
    """Returns how many bytes of a file are not stored: they read as zeros, and cost FFmpeg time and memory."""
    gaps = position = 0
    try:
        while position < size:
            data = os.lseek(descriptor, position, os.SEEK_DATA)
            gaps += data - position
            position = os.lseek(descriptor, data, os.SEEK_HOLE)
    except OSError as error:
        # ENXIO: there are no data after `position`. Otherwise the file system does not record gaps.
        return gaps + size - position if error.errno == errno.ENXIO else 0
    return gaps


@content_call
def _open_file(name: str) -> InputContainer:
    # With the prefix and an absolute path, FFmpeg cannot mistake names such as "concat:a|b" or "-i" for anything else.
    url = "file:" + str(Path(name).absolute())
    return av.open(
        url, container_options=_OPTIONS, options=_STREAM_OPTIONS, metadata_errors="replace", timeout=_READ_SECONDS
    )


def _rule_and_remedy(name: str, error: Exception) -> tuple[str, str]:
    # The operating system's errors arrive directly from stat(), or as the cause of a failed av.open().
    match error.__cause__ or error:
        case FileNotFoundError() if "://" in name:
            return "URLs are not opened", "download it first"
        case FileNotFoundError():
            return "no such file", ""
        case PermissionError():
            return "permission denied", "make the file readable"
        case av.ExitError():
            return f"holds no movie that is found within {_READ_SECONDS} s of reading", "pass a complete movie file"
        case _NotRegularError() as irregular:
            return irregular.rule, irregular.remedy
        case _ExcessError() as excess:
            return str(excess), "pass a complete movie file"
        case OSError() as failure if not isinstance(failure, av.FFmpegError):
            return failure.strerror or str(failure), ""
    return "is not a movie that FFmpeg can read, or is a playlist or script", "pass a self-contained movie file"


def movie_streams(container: InputContainer) -> list[VideoStream]:
    """Returns the video streams without attached pictures (cover art)."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def movie_stream(container: InputContainer, path: str | os.PathLike[str]) -> VideoStream:
    """Returns the stream to read: the first of `movie_streams`.

    Args:
        container: Open container.
        path: Path of its file, for the error message.

    Raises:
        VideoError: There is no such stream, FFmpeg has no video decoder for its codec, or its pictures are too large.
    """
    streams = movie_streams(container)
    if not streams:
        pictures = " (only a cover picture)" if container.streams.video else ""
        held = ", ".join(sorted({stream.type for stream in container.streams})) or "no streams"
        rule = f"holds no video stream{pictures}, only {held}"
        raise VideoError.of("video", os.fspath(path), rule, "pass a file with a video stream")
    if streams[0].codec_context is None:
        raise VideoError.of("video", os.fspath(path), "its codec is unknown to FFmpeg", "convert it to H.264")
    decoder = streams[0].codec_context
    if decoder.width * decoder.height > MAX_PIXELS:
        rule = f"its pictures have {decoder.width} x {decoder.height} pixels, and at most {MAX_PIXELS:,} are decoded"
        raise VideoError.of("video", os.fspath(path), rule, "scale it down")
    # The header may announce smaller pictures than the packets hold.
    decoder.options = dict(_STREAM_OPTIONS)
    return streams[0]
