"""Small files that announce much, and large files that hold little: each is read or refused in bounded time and memory.

Every file is made here and read in a process of its own. A failure is a signal, a run of more than 60 s, more than
1 GB of memory, or an exception that is not of this project; for `vis4mer run` also any exit status but 0 and 1, or more
than one error line.

    python -m tests.campaigns.bombs                     # all files, through the reader and through run
    python -m tests.campaigns.bombs --only deep-boxes --through reader
"""

import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.campaigns.campaign import HANG_SECONDS, Trial, failure, finish, parser, table, with_progress
from tests.campaigns.containers import (
    ATTACHMENTS,
    SUBTITLES,
    TAGS,
    box,
    element,
    full_box,
    matroska,
    mp4,
    number,
    video_track,
)
from tests.campaigns.isolation import isolated
from tests.campaigns.videos import CONTAINERS, WAYS, encode
from vis4mer.runtime.backends.onnx import import_onnxruntime

GIGA, TERA = 1_000_000_000, 1 << 40
SECONDS = range(0, 8000, 1000)  # in milliseconds, eight pictures
FIRST_TIMES = range(0, 1000, 125)

Bomb = Callable[[Path], None]  # writes the file


def data(make: Callable[[], bytes]) -> Bomb:
    """Returns the bomb that writes what `make` returns."""

    def write(path: Path) -> None:
        path.write_bytes(make())

    return write


def sparse(size: int, head: Callable[[], bytes] = bytes) -> Bomb:
    """Returns the bomb that is `size` bytes long, all of them zero but the first."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(head())
            file.truncate(size)

    return write


def picture(codec: str, container: str, size: int, pixel_format: str) -> Bomb:
    """Returns the bomb that holds one black picture of `size` x `size` pixels."""

    def write(path: Path) -> None:
        with av.open(str(path), "w", format=container) as file:
            stream = file.add_stream(codec, rate=1)
            stream.width, stream.height, stream.pix_fmt = size, size, pixel_format
            stream.codec_context.thread_count = 1
            stream.options = {"preset": "ultrafast"} if codec.startswith("libx") else {}
            frame = av.VideoFrame(size, size, pixel_format)
            for plane in frame.planes:
                np.frombuffer(plane, np.uint8)[:] = 0
            frame.pts, frame.time_base = 0, Fraction(1, 1)
            file.mux(stream.encode(frame))
            file.mux(stream.encode(None))

    return write


def animated_png(width: int, height: int) -> bytes:
    """Returns an APNG of one black picture, one bit per pixel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)),
            chunk(b"acTL", struct.pack(">II", 1, 0)),
            chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 1, 1, 0, 0)),
            chunk(b"IDAT", pixels),
            chunk(b"IEND", b""),
        )
    )


def gif(width: int, height: int) -> bytes:
    """Returns a GIF with a canvas of any size and one picture of a single pixel."""
    canvas = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return canvas + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0;"


def avi(frames: int, announced: int, rate: tuple[int, int] = (24, 1), size: tuple[int, int] = (2, 2)) -> bytes:
    """Returns an AVI of uncompressed pictures, of which the header announces another number."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    def chunks(kind: bytes, content: bytes) -> bytes:
        return chunk(b"LIST", kind + content)

    width, height = size
    main = struct.pack("<14I", 41666, 0, 0, 0, announced, 0, 1, 0, width, height, 0, 0, 0, 0)
    stream = b"vidsDIB " + struct.pack("<12I", 0, 0, 0, rate[1], rate[0], 0, announced, 0, 0, 0, 0, 0)
    bitmap = struct.pack("<IiiHHIIIIII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    header = chunks(b"hdrl", chunk(b"avih", main) + chunks(b"strl", chunk(b"strh", stream) + chunk(b"strf", bitmap)))
    movie = chunks(b"movi", b"".join(chunk(b"00db", bytes(16)) for _ in range(frames)))
    content = b"AVI " + header + movie
    return b"RIFF" + struct.pack("<I", len(content)) + content


def nested(outer: Callable[[bytes], bytes], depth: int) -> bytes:
    """Returns `depth` elements, one in the other. Each level copies all others, so the depth stays in the thousands."""
    content = b""
    for _ in range(depth):
        content = outer(content)
    return content


def encoded(container: str) -> bytes:
    """Returns a real movie of one of the containers."""
    with tempfile.TemporaryDirectory() as folder:
        return encode(CONTAINERS[container], Path(folder) / f"movie{CONTAINERS[container].suffix}", frames=12)


def transport_stream_of_many() -> bytes:
    """Returns a transport stream whose programs declare 6,000 video streams."""

    def packet(identifier: int, counter: int, section: bytes) -> bytes:
        return struct.pack(">BHB", 0x47, 0x4000 | identifier, 0x10 | counter & 15) + (b"\0" + section).ljust(
            184, b"\xff"
        )

    def section(table: int, extension: int, content: bytes) -> bytes:
        body = struct.pack(">BHHBBB", table, 0xB000 | len(content) + 9, extension, 0xC1, 0, 0) + content
        return body + struct.pack(">I", _crc32_mpeg(body))

    packets = []
    for program in range(1, 201):
        table = 0x1000 + program
        packets.append(packet(0, program, section(0, 1, struct.pack(">HH", program, 0xE000 | table))))
        streams = b"".join(struct.pack(">BHH", 0x1B, 0xE000 | 32 + program * 30 % 4000 + i, 0xF000) for i in range(30))
        packets.append(packet(table, 0, section(2, program, struct.pack(">HH", 0xE020, 0xF000) + streams)))
    return b"".join(packets) * 4


def _crc32_mpeg(body: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in body:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


def edits(*entries: tuple[int, int, int]) -> bytes:
    """Returns an edit list: durations, start times in the media, and rates in 16.16."""
    return box(b"edts", full_box(b"elst", struct.pack(">I", len(entries)), *(struct.pack(">Iii", *e) for e in entries)))


def fragmented(samples: int) -> bytes:
    """Returns an MP4 file with a fragment that announces samples of equal size."""
    defaults = box(b"mvex", full_box(b"trex", struct.pack(">5I", 1, 1, 1, 12, 0)))
    track = box(b"tfhd", b"\0\0\0\x38", struct.pack(">IIII", 1, 1, 12, 0))
    run = full_box(b"trun", struct.pack(">I", samples))
    return (
        mp4(before=defaults)
        + box(b"moof", full_box(b"mfhd", bytes(4)), box(b"traf", track, run))
        + box(b"mdat", bytes(96))
    )


# Encoding or reading these takes longer than the test suite can wait.
SLOW = ("16k-h264", "16k-h264-ts", "8256-hevc", "mp4-1e6-packets", "avi-1e6-packets")

BOMBS: dict[str, Bomb] = {
    # Pictures
    "16k-mjpeg": picture("mjpeg", "avi", 16_000, "yuvj420p"),
    "16k-h264": picture("libx264", "mp4", 16_000, "yuv420p"),
    "16k-h264-ts": picture("libx264", "mpegts", 16_000, "yuv444p10le"),
    "8256-hevc": picture("libx265", "matroska", 8_256, "yuv420p"),
    "8k-mjpeg": picture("mjpeg", "avi", 8_192, "yuvj420p"),
    "apng-30000": data(lambda: animated_png(30_000, 30_000)),
    "apng-16000": data(lambda: animated_png(16_000, 16_000)),
    "gif-65535": data(lambda: gif(65_535, 65_535)),
    "gif-16000": data(lambda: gif(16_000, 16_000)),
    "gif-1x65535": data(lambda: gif(1, 65_535)),
    "mp4-announces-65535": data(lambda: mp4(size=(65_535, 65_535))),
    "avi-announces-2^30": data(lambda: avi(8, 8, size=(1 << 30, 1))),
    # Numbers of frames
    "avi-1e9-frames": data(lambda: avi(8, GIGA)),
    "mp4-1e7-frames": data(lambda: mp4(samples=10_000_000, stored=8)),
    "mp4-8e7-frames": data(lambda: mp4(samples=80_000_000, stored=8)),
    "mp4-8e7-frames-in-10-tracks": data(lambda: mp4(samples=80_000_000, stored=8, tracks=10)),
    "mp4-fragment-of-8e7-frames": data(lambda: fragmented(80_000_000)),
    "mp4-1e3-edits-of-1e5-frames": data(lambda: mp4(samples=100_000, edits=edits(*[(100_000, 0, 65_536)] * 1000))),
    "mp4-1e8-frames": data(lambda: mp4(samples=100_000_000, stored=8)),
    "mp4-1e9-frames": data(lambda: mp4(samples=GIGA, stored=8)),
    "mp4-2^32-frames": data(lambda: mp4(samples=0xFFFFFFFF, stored=8)),
    "mp4-1e6-packets": data(lambda: mp4(samples=1_000_000, timescale=1000)),
    "avi-1e6-packets": data(lambda: avi(1_000_000, 1_000_000, (1000, 1))),
    "mkv-1e5-stills": data(lambda: matroska(times=range(0, 100_000 * 600_000, 600_000))),
    "mkv-1e5-clusters-empty": data(lambda: matroska(element(0x1F43B675) * 100_000, times=SECONDS)),
    # Clocks and durations
    "mkv-1-ns-ticks": data(lambda: matroska(times=range(8), tick_ns=1)),
    "mkv-1-ms": data(lambda: matroska(times=range(8))),
    "mkv-0-ns-ticks": data(lambda: matroska(times=range(8), tick_ns=0)),
    "mkv-2^63-ns-ticks": data(lambda: matroska(times=range(8), tick_ns=1 << 63)),
    "mkv-huge-ticks": data(lambda: matroska(times=range(8), tick_ns=10**18)),
    "mkv-100-hours-3-packets": data(lambda: matroska(times=(0, 180_000_000, 360_000_000))),
    "mkv-negative-times": data(lambda: matroska(times=(-(1 << 62), -1, 0, 1 << 62, (1 << 63) - 1, 1))),
    "mkv-frame-of-1-ns": data(lambda: matroska(times=SECONDS, track=number(0x23E383, 1))),
    "mkv-frame-of-2^63-ns": data(lambda: matroska(times=SECONDS, track=number(0x23E383, (1 << 63) - 1))),
    "mkv-declares-a-year": data(lambda: matroska(number(0x4489, 1 << 62), times=SECONDS)),
    "mp4-2^31-ticks-per-second": data(lambda: mp4(timescale=2**31 - 1)),
    "mp4-0-ticks-per-second": data(lambda: mp4(timescale=0)),
    "mp4-steps-of-2^32": data(lambda: mp4(timescale=1, ticks=0xFFFFFFFF)),
    "mp4-steps-of-0": data(lambda: mp4(samples=1000, ticks=0)),
    "mp4-edits-of-2^31": data(lambda: mp4(edits=edits((0xFFFFFFFF, -1, 0), (0xFFFFFFFF, -(2**31), -(2**31))))),
    "mp4-1e5-edits": data(lambda: mp4(edits=edits(*[(1, 0, 65536)] * 100_000))),
    "mp4-1e6-edits": data(lambda: mp4(edits=edits(*[(1, 0, 65536)] * 1_000_000))),
    "avi-1e9-frames-per-second": data(lambda: avi(8, 8, (GIGA, 1))),
    "avi-frame-per-day": data(lambda: avi(8, 8, (1, 86_400))),
    "avi-frame-per-10-minutes": data(lambda: avi(100_000, 100_000, (1, 600))),
    # Headers
    "mkv-100-mb-tag": data(
        lambda: matroska(
            element(TAGS, element(0x7373, element(0x67C8, element(0x45A3, b"T"), element(0x4487, b"x" * 10**8)))),
            times=SECONDS,
        )
    ),
    "mp4-100-mb-tag": data(
        lambda: mp4(before=box(b"udta", box(b"\xa9nam", struct.pack(">HH", 0xFFFF, 0), b"x" * 10**8)))
    ),
    "mp4-1e5-tags": data(
        lambda: mp4(before=box(b"udta", *(box(b"\xa9nam", struct.pack(">HH", 4, 0), b"abcd") for _ in range(100_000))))
    ),
    "mkv-50-mb-extradata": data(lambda: matroska(times=SECONDS, track=element(0x63A2, bytes(50_000_000)))),
    "mkv-h264-50-mb-extradata": data(
        lambda: matroska(
            times=SECONDS, tracks=video_track(element(0x63A2, b"\1" + bytes(50_000_000)), codec=b"V_MPEG4/ISO/AVC")
        )
    ),
    "mp4-50-mb-extradata": data(lambda: mp4(entry=box(b"glbl", bytes(50_000_000)))),
    "mp4-sample-aspect-ratio": data(lambda: mp4(entry=box(b"pasp", struct.pack(">II", 1, GIGA)))),
    "mp4-rotation-of-nothing": data(lambda: mp4(matrix=[0] * 9)),
    "mp4-rotation-of-extremes": data(lambda: mp4(matrix=[-(2**31), 2**31 - 1, 7] * 3)),
    # Structure
    "mp4-5000-tracks": data(lambda: mp4(tracks=5000)),
    "mkv-5000-tracks": data(
        lambda: matroska(times=SECONDS, tracks=b"".join(video_track(identifier=i) for i in range(1, 5001)))
    ),
    "mkv-900-tracks": data(
        lambda: matroska(times=SECONDS, tracks=b"".join(video_track(identifier=i) for i in range(1, 901)))
    ),
    "ts-6000-streams": data(transport_stream_of_many),
    "deep-boxes": data(lambda: mp4(before=nested(lambda inner: box(b"udta", inner), 5000))),
    "deep-tracks": data(lambda: mp4(before=nested(lambda inner: box(b"trak", inner), 5000))),
    "deep-movies": data(lambda: box(b"ftyp", b"qt  ", bytes(4)) + nested(lambda inner: box(b"moov", inner), 5000)),
    "deep-tags": data(
        lambda: matroska(element(TAGS, element(0x7373, nested(lambda inner: element(0x67C8, inner), 5000))))
    ),
    "deep-segments": data(lambda: matroska(nested(lambda inner: element(0x18538067, inner), 2000), times=SECONDS)),
    "deep-chapters": data(
        lambda: matroska(
            element(0x1043A770, element(0x45B9, nested(lambda inner: element(0xB6, inner), 5000))), times=SECONDS
        )
    ),
    "1e6-boxes": data(lambda: box(b"ftyp", b"qt  ", bytes(4)) + box(b"free") * 1_000_000 + mp4()),
    "mkv-subtitles-only": data(
        lambda: matroska(
            tracks=element(
                0xAE, number(0xD7, 1), number(0x73C5, 1), number(0x83, SUBTITLES), element(0x86, b"S_TEXT/UTF8")
            ),
            times=SECONDS,
        )
    ),
    "mkv-attachment-only": data(
        lambda: matroska(
            element(
                ATTACHMENTS,
                element(
                    0x61A7,
                    element(0x466E, b"a.mp4"),
                    element(0x4660, b"video/mp4"),
                    number(0x46AE, 1),
                    element(0x465C, bytes(10**7)),
                ),
            ),
            tracks=b"",
        )
    ),
    "mkv-no-picture": data(lambda: matroska()),
    **{
        f"{name}-twice": data(lambda name=name: encoded(name) * 2)
        for name in ("mp4", "mkv", "ts", "webm", "avi", "gif")
    },
    "mkv-in-mp4": data(lambda: encoded("mp4") + encoded("mkv")),
    # Files
    "empty": data(bytes),
    "1-byte": data(lambda: b"\0"),
    "1-tb-zeros": sparse(TERA),
    **{
        f"1-tb-after-{name}": sparse(TERA, lambda name=name: encoded(name))
        for name in ("mp4", "mkv", "ts", "webm", "avi", "gif")
    },
    **{
        f"250-mb-of-zeros-after-{name}": sparse(250 << 20, lambda name=name: encoded(name))
        for name in ("mp4", "mkv", "ts", "webm", "avi", "gif")
    },
    "1-tb-in-a-box": sparse(TERA, lambda: mp4() + struct.pack(">I4sQ", 1, b"mdat", TERA - 2000)),
    "250-mb-of-zeros-after-mpeg-ps": sparse(
        250 << 20, lambda: bytes.fromhex("000001ba44000400040100000303f8000001e0") + bytes(100)
    ),
    "250-mb-of-zeros-after-h264": sparse(250 << 20, lambda: bytes.fromhex("0000000167640014acd9") + bytes(100)),
    "250-mb-of-zeros-after-flv": sparse(250 << 20, lambda: b"FLV\1\1" + struct.pack(">I", 9) + bytes(4)),
}


def make(name: str, path: Path) -> int:
    """Writes a bomb; returns an exit status."""
    BOMBS[name](path)
    return 0


def attempt(way: str, name: str, folder: Path) -> Trial:
    """Makes one bomb and tries it."""
    path = folder / "movie.bin"
    # Made in a process of its own too: what the encoders take must not count.
    made = isolated(lambda: make(name, path), 10 * HANG_SECONDS, folder)
    if made.status != 0:
        return Trial((way,), name, "", f"cannot be made: {made.stderr.strip().splitlines()[-1:]}")
    try:
        ending = isolated(lambda: WAYS[way](path), HANG_SECONDS, folder)
    finally:
        path.unlink()
    return Trial(
        row=(way,),
        name=name,
        outcome="refused" if ending.status else "read",
        problem=failure(ending, command=way == "run"),
        seconds=ending.seconds,
        peak_bytes=ending.peak_bytes,
    )


def campaign(ways: Sequence[str], names: Sequence[str]) -> Iterator[Trial]:
    """Tries bombs, one after the other, in each way."""
    import_onnxruntime()  # once, before the processes are forked
    with tempfile.TemporaryDirectory() as folder:
        trials = (attempt(way, name, Path(folder)) for way in ways for name in names)
        yield from with_progress(trials, len(ways) * len(names))


def main() -> None:
    """Runs the campaign, prints its table and optionally writes it as JSON."""
    options_of = parser(__doc__)
    options_of.add_argument("--only", nargs="+", choices=BOMBS, default=list(BOMBS), metavar="BOMB")
    options_of.add_argument("--through", nargs="+", choices=WAYS, default=list(WAYS))
    options = options_of.parse_args()
    rows = table(("through",), ("read", "refused"), campaign(options.through, options.only))
    sys.exit(finish("bombs", __doc__, rows, options.output))


if __name__ == "__main__":
    main()
