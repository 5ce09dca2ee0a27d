"""Movies made here, whose frames carry their own number, so that a test reads off which frame it got."""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from vis4mer.config import Preprocessing
from vis4mer.errors import VideoError
from vis4mer.video import Damage, FrameBatch, open_video

BITS, BAR, HEIGHT = 8, 16, 64
WIDTH = BITS * BAR


def draw(number: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Frame `number`: its binary digits as black and white bars in the upper half, moving colours in the lower one."""
    digits = number >> np.arange(BITS)[::-1] & 1
    bars = np.repeat(digits * 220 + 16, -(-width // BITS))[:width]
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2] = bars[:, None]
    y, x = np.mgrid[height // 2 : height, :width]
    waves = [np.sin((x + speed * number) / 9 + y / 7) * 70 + 120 for speed in (1, 2, 3)]
    image[height // 2 :] = np.stack(waves, axis=-1)
    return image


def number_of(frame: NDArray[np.uint8]) -> int:
    """Reads a frame's number from its bars, at any size."""
    height, width = frame.shape[:2]
    centres = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    return int("".join("1" if frame[height // 4, c].mean() > 128 else "0" for c in centres), 2)


def encode(
    path: Path,
    *,
    codec: str = "libx264",
    count: int = 48,
    rate: int = 24,
    pts: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    gop: int = 24,
    b_frames: int | None = None,
    container_format: str | None = None,
    container_options: dict[str, str] | None = None,
    prepare: Callable[[av.VideoStream], None] = lambda stream: None,
    first: int = 0,
) -> Path:
    """Encodes frames `first` to `first + count`, shown at `pts` (in 1/rate s, default 0, 1, ...)."""
    with av.open(str(path), "w", format=container_format, options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.options = options or {}
        stream.codec_context.gop_size = gop
        stream.codec_context.thread_count = 1
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        prepare(stream)
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(draw(first + i, *size), format="rgb24")
            frame.pts, frame.time_base = (pts[i] if pts else i), Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def add_sound(video: Path | None, path: Path, seconds: float) -> Path:
    """Copies a movie's picture, if any, beside a tone of its own."""
    with ExitStack() as stack:
        output = stack.enter_context(av.open(str(path), "w"))
        sound = output.add_stream("aac", rate=8000)
        if video:
            source = stack.enter_context(av.open(str(video)))
            picture = output.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.size:
                    packet.stream = picture
                    output.mux(packet)
        for start in range(0, int(seconds * 8000), 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, start, Fraction(1, 8000)
            output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    return path


def x264(gop: int = 24, b_frames: int = 3, extra: str = "") -> dict[str, str]:
    params = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={b_frames}:b-adapt=0:{extra}"
    return {"preset": "veryfast", "x264-params": params.rstrip(":")}


def gather(batches: Iterable[FrameBatch]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    frames, seconds = zip(*((batch.frames, batch.pts_seconds) for batch in batches), strict=True)
    return np.concatenate(frames), np.concatenate(seconds)


def sampled_numbers(path: Path, fps: float, **arguments: object) -> list[int]:
    """The numbers of the frames that a reader samples."""
    with open_video(path, Preprocessing(fps=fps, height=HEIGHT, width=WIDTH), **arguments) as reader:  # type: ignore[arg-type]
        frames, _ = gather(reader)
        assert len(frames) == reader.n_frames
        assert not reader.damage
    return [number_of(frame) for frame in frames]


def outcome(path: str | Path, fps: float = 4.0) -> tuple[list[int], Damage] | str:
    """The numbers of the frames that a reader samples and the damage, or the one-line message of its error."""
    try:
        with open_video(path, Preprocessing(fps=fps, height=HEIGHT, width=WIDTH)) as reader:
            frames, seconds = gather(reader)
            assert len(frames) == reader.n_frames
            assert np.all(np.diff(seconds) >= 0)
            return [number_of(frame) for frame in frames], reader.damage
    except VideoError as error:
        assert str(error).startswith(f"video={os.fspath(path)!r}: ")
        assert "\n" not in str(error)
        return str(error)


@pytest.fixture(scope="session")
def movies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for movies that several tests read."""
    return tmp_path_factory.mktemp("movies")


@pytest.fixture(scope="session")
def plain(movies: Path) -> Path:
    """Two seconds of H.264 with B-frames in MP4."""
    return encode(movies / "plain.mp4", options=x264())


@pytest.fixture(scope="session")
def vp9(movies: Path) -> Path:
    return encode(movies / "vp9.webm", codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"})


@pytest.fixture(scope="session")
def mjpeg(movies: Path) -> Path:
    return encode(movies / "mjpeg.avi", codec="mjpeg", pixel_format="yuvj420p")


@pytest.fixture(scope="session")
def video_tools() -> SimpleNamespace:
    """The helpers above, for tests (which cannot import a conftest)."""
    return SimpleNamespace(
        draw=draw,
        number_of=number_of,
        encode=encode,
        x264=x264,
        add_sound=add_sound,
        gather=gather,
        sampled_numbers=sampled_numbers,
        outcome=outcome,
        HEIGHT=HEIGHT,
        WIDTH=WIDTH,
    )
