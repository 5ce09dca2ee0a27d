"""Opening a file that nobody vouches for: one regular local file, one self-contained movie, nothing else."""

import os
import stat
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from vis4mer.errors import VideoError

# Demuxers of self-contained movie files. Playlists, scripts and image sequences (hls, dash, concat, sdp, image2, ...)
# name further files or addresses and are not among them.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska,webm",
    *("apng", "asf", "av1", "avi", "cavsvideo", "dv", "flv", "gif", "gxf", "h261", "h263", "h264", "hevc", "ivf"),
    *("m4v", "mjpeg", "mpeg", "mpegts", "mpegvideo", "mxf", "nut", "obu", "ogg", "rm", "swf", "vc1", "vvc", "wtv"),
    "yuv4mpegpipe",
)
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": ",".join(_FORMATS)}


def open_container(path: str | os.PathLike[str]) -> InputContainer:
    """Opens a movie file for demuxing.

    The name is never taken for an address or a pattern, whatever it looks like, and whatever the file holds, no other
    file or host is touched.

    Raises:
        VideoError: there is no such regular file, it cannot be read, or it is not a movie.
    """
    name = os.fspath(path)
    try:
        mode = Path(name).stat().st_mode
        if stat.S_ISREG(mode):
            return av.open("file:" + str(Path(name).absolute()), container_options=_OPTIONS, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"video={name!r}: {_why(error)}") from None
    kind = "directory" if stat.S_ISDIR(mode) else "FIFO, socket or device"
    raise VideoError(f"video={name!r}: is a {kind}; give a regular movie file")


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "permission denied; make the file readable"
    if isinstance(error, OSError) and not isinstance(error, av.FFmpegError):
        return error.strerror or str(error)
    return "not a movie that FFmpeg can read, or a playlist or script; give a self-contained movie file"


def movie_streams(container: InputContainer) -> list[VideoStream]:
    """The video streams that are movies: attached pictures (cover art) are left out."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def movie_stream(container: InputContainer, path: str | os.PathLike[str]) -> VideoStream:
    """The stream to read: the first that is a movie.

    Raises:
        VideoError: there is none, or FFmpeg has no video decoder for its codec.
    """
    name = os.fspath(path)
    streams = movie_streams(container)
    if not streams:
        held = ", ".join(sorted({s.type for s in container.streams})) or "no streams"
        pictures = " (only a cover picture)" if container.streams.video else ""
        raise VideoError(f"video={name!r}: holds no video stream{pictures}, only {held}; give a file with a picture")
    if streams[0].codec_context is None:
        raise VideoError(f"video={name!r}: its codec is unknown to FFmpeg; convert it to H.264")
    return streams[0]
