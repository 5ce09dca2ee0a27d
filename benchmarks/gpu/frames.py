"""Compares the frames of the GPU's video decoder with PyAV's, over generated movies.

    python -m benchmarks.gpu.frames [--device cuda]

Each movie is read with `--video-decoder auto` on the GPU and with PyAV, one frame per half second, resized to 224 x 224
pixels. The times must be equal, and the pixels may differ by two levels of 255 on average, because the decoders convert
colours with different rounding. Movies that the GPU does not decode are read by PyAV, for the reason in the table; at
least one must be decoded on the GPU. On the CPU, planned decoding is compared with decoding every frame. Prints one
JSON object.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.every_packet import DecodeEverything
from vis4mer.config import Preprocessing
from vis4mer.devices.arrays import on_host
from vis4mer.devices.device import CPU, Device
from vis4mer.errors import Vis4merError
from vis4mer.video import VideoReader, open_video, scan

PREPROCESSING = Preprocessing(fps=2.0)
TOLERANCE = 2.0  # levels of 255, mean over all pixels

_RATE, _SECONDS = 24, 5
_BT709, _BT601 = 1, 6  # AVColorSpace
_LIMITED, _FULL = 1, 2  # AVColorRange


class Coding(NamedTuple):
    """How a movie is stored.

    Attributes:
        name: Name of the movie, in the table.
        codec: FFmpeg's name of the encoder.
        suffix: Suffix of the file, which selects the container.
        options: Options of the encoder.
        matrix: AVColorSpace that the stream declares.
        colour_range: AVColorRange that the stream declares.
        size: Width and height in pixels.
    """

    name: str
    codec: str
    suffix: str = "mp4"
    options: str = ""
    matrix: int = _BT709
    colour_range: int = _LIMITED
    size: tuple[int, int] = (640, 360)


_CLOSED = "keyint=24:scenecut=0:open-gop=0"
_OPEN = "keyint=24:scenecut=0:open-gop=1"
CODINGS = (
    Coding("H.264, BT.709", "libx264", options=f"x264-params={_CLOSED}"),
    Coding("H.264, BT.601", "libx264", options=f"x264-params={_CLOSED}", matrix=_BT601),
    Coding("H.264, full range", "libx264", options=f"x264-params={_CLOSED}", colour_range=_FULL),
    Coding("H.264, open GOP", "libx264", options=f"x264-params={_OPEN}:bframes=3"),
    Coding("H.264, interlaced", "libx264", options=f"x264-params={_CLOSED}:interlaced=1"),
    Coding("H.264, 1080p", "libx264", options=f"x264-params={_CLOSED}", size=(1920, 1080)),
    Coding("H.264, MPEG-TS", "libx264", "ts", f"x264-params={_OPEN}"),
    Coding("H.264, 638 x 358", "libx264", "mkv", f"x264-params={_CLOSED}", size=(638, 358)),
    Coding("HEVC, closed GOP", "libx265", options=f"x265-params=log-level=none:{_CLOSED}"),
    Coding("HEVC, open GOP", "libx265", options=f"x265-params=log-level=none:{_OPEN}"),
    Coding("HEVC, BT.601", "libx265", "mkv", f"x265-params=log-level=none:{_OPEN}", _BT601),
    Coding("MPEG-4", "mpeg4", options="g=24,bf=2", matrix=_BT601),
    Coding("VP8", "libvpx", "webm", "g=24,deadline=realtime,cpu-used=8", _BT601),
    Coding("VP9", "libvpx-vp9", "webm", "g=24,deadline=realtime,cpu-used=8"),
    Coding("AV1", "libsvtav1", "mkv", "g=24,preset=12"),
)
TINY = CODINGS[:2]


class Reading(NamedTuple):
    """The frames of one movie.

    Attributes:
        frames: RGB, uint8 [N, H, W, 3].
        seconds: Times, float64 [N].
        decoder: Video decoder that was used at the end.
        reason: Why it was used.
    """

    frames: NDArray[np.uint8]
    seconds: NDArray[np.float64]
    decoder: str
    reason: str


def write_movie(coding: Coding, path: Path) -> None:
    """Writes a movie of five seconds: a pattern of saturated colours that moves.

    Raises:
        ValueError: This build of FFmpeg lacks the encoder.
    """
    with av.open(str(path), "w") as container:
        options = dict(option.split("=", 1) for option in coding.options.split(",") if option)
        stream = container.add_stream(coding.codec, rate=_RATE, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = coding.size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = coding.matrix, coding.colour_range
        for i, picture in enumerate(_pictures(*coding.size)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=coding.matrix, dst_color_range=coding.colour_range
            )
            frame.pts, frame.time_base = i, Fraction(1, _RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _pictures(width: int, height: int) -> Iterator[NDArray[np.uint8]]:
    y, x = np.mgrid[:height, :width]
    for i in range(_SECONDS * _RATE):
        waves = [np.sin((x * a + y * b) / 40 + i / 6 + c) for a, b, c in ((1, 0, 0), (0, 1, 2), (0.6, 0.8, 4))]
        yield np.stack([127.5 + 120 * wave for wave in waves], axis=-1).astype(np.uint8)


def read(reader: VideoReader) -> Reading:
    """Reads a movie to its end.

    Raises:
        DeviceError: The device failed.
        VideoError: No frame can be decoded.
    """
    with reader:
        batches = [(on_host(batch.frames), batch.pts_seconds) for batch in reader]
        frames, seconds = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        return Reading(frames, seconds, reader.name, reader.reason)


def compare(path: Path, device: Device) -> dict[str, Any]:
    """Returns the row of one movie, without its name.

    Raises:
        DeviceError: The device failed.
        VideoError: The movie cannot be read.
    """
    expected = read(open_video(path, PREPROCESSING, video_decoder="pyav"))
    if device.kind == "cpu":
        found = read(DecodeEverything(scan(path), PREPROCESSING, reason="every frame is decoded"))
    else:
        found = read(open_video(path, PREPROCESSING, device=device))
    row: dict[str, Any] = {"decoder": found.decoder, "reason": found.reason}
    if not np.array_equal(found.seconds, expected.seconds):
        return {**row, "agrees": False, "frames": len(found.frames), "expected_frames": len(expected.frames)}
    differences = np.abs(found.frames.astype(np.int16) - expected.frames)
    mean, largest = float(differences.mean()), int(differences.max())
    # A movie that PyAV reads to its end may have been begun on the GPU.
    tolerance = 0.0 if device.kind == "cpu" else TOLERANCE
    return {**row, "agrees": mean <= tolerance, "mean_difference": round(mean, 3), "max_difference": largest}


def compare_all(codings: tuple[Coding, ...], device: Device) -> list[dict[str, Any]]:
    """Returns a row for each movie; one that cannot be made or read has the error in it."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for i, coding in enumerate(codings):
            path = Path(folder) / f"{i}.{coding.suffix}"
            try:
                write_movie(coding, path)
            except (ValueError, av.FFmpegError) as error:
                rows.append({"movie": coding.name, "agrees": None, "reason": f"cannot be made here: {error}"})
                continue
            try:
                rows.append({"movie": coding.name, **compare(path, device)})
            except Vis4merError as error:
                rows.append({"movie": coding.name, "agrees": False, "reason": str(error)})
    return rows


def main() -> None:
    """Runs the command line; exits with 1 if frames differ, or if the GPU decoded no movie."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.frames",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="(default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="two movies only")
    options = parser.parse_args()
    device = CPU if options.device == "cpu" else Device("cuda")
    rows = compare_all(TINY if options.tiny else CODINGS, device)
    print(json.dumps({"rows": rows}, indent=2))
    if any(row["agrees"] is False for row in rows):
        sys.exit("error: frames differ from PyAV's")
    if device.kind == "cuda" and all(row.get("decoder") != "dali" for row in rows):
        sys.exit("error: no movie was decoded on the GPU; the table has the reasons")


if __name__ == "__main__":
    main()
