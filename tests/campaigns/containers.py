"""Writes containers byte by byte, as no muxer would: the parts from which `bombs` builds its files."""

import struct
from collections.abc import Iterable

EBML, SEGMENT, TRACKS, CLUSTER, TAGS, ATTACHMENTS = (
    0x1A45DFA3,
    0x18538067,
    0x1654AE6B,
    0x1F43B675,
    0x1254C367,
    0x1941A469,
)
RAW_VIDEO, SUBTITLES = 1, 17  # Matroska's track types
RAW_SIZE = (2, 2)  # width and height of the pictures that `raw_picture` returns


def box(kind: bytes, *contents: bytes) -> bytes:
    """Returns a box of an MP4 file."""
    content = b"".join(contents)
    return struct.pack(">I4s", len(content) + 8, kind) + content


def full_box(kind: bytes, *contents: bytes) -> bytes:
    """Returns a box with version 0 and no flags."""
    return box(kind, bytes(4), *contents)


def element(identifier: int, *contents: bytes) -> bytes:
    """Returns an element of a Matroska file, with a size of eight bytes."""
    content = b"".join(contents)
    return (
        identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")
        + struct.pack(">Q", 1 << 56 | len(content))
        + content
    )


def number(identifier: int, value: int) -> bytes:
    """Returns an element that holds an unsigned integer."""
    return element(identifier, value.to_bytes(8, "big"))


def raw_picture(shade: int) -> bytes:
    """Returns a grey picture of 2 x 2 pixels, RGB."""
    return bytes([shade % 256]) * 12


def matroska(
    *elements: bytes,
    times: Iterable[int] = (),
    tick_ns: int = 1_000_000,
    tracks: bytes | None = None,
    track: bytes = b"",
) -> bytes:
    """Returns a Matroska file of uncompressed pictures of 2 x 2 pixels.

    Args:
        elements: Further elements of the segment, before the pictures.
        times: Times of the pictures, in ticks.
        tick_ns: Nanoseconds per tick.
        tracks: Entries of the list of tracks; None for one video track.
        track: Further elements of that track.
    """
    head = element(EBML, element(0x4282, b"matroska"), number(0x4287, 4), number(0x4285, 2))
    clusters = [
        element(CLUSTER, number(0xE7, time % (1 << 64)), element(0xA3, b"\x81\0\0\x80", raw_picture(shade)))
        for shade, time in enumerate(times)
    ]
    entries = video_track(track) if tracks is None else tracks
    information = element(0x1549A966, number(0x2AD7B1, tick_ns))
    return head + element(SEGMENT, information, element(TRACKS, entries), *elements, *clusters)


def video_track(*elements: bytes, identifier: int = 1, codec: bytes = b"V_UNCOMPRESSED") -> bytes:
    """Returns the entry of a video track."""
    size = number(0xB0, RAW_SIZE[0]) + number(0xBA, RAW_SIZE[1]) + element(0x2EB524, b"RGB\x18")
    return element(
        0xAE,
        number(0xD7, identifier),
        number(0x73C5, identifier),
        number(0x83, RAW_VIDEO),
        element(0x86, codec),
        element(0xE0, size),
        *elements,
    )


def mp4(
    *,
    samples: int = 8,
    stored: int | None = None,
    timescale: int = 8,
    ticks: int = 1,
    size: tuple[int, int] = RAW_SIZE,
    matrix: Iterable[int] = (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30),
    entry: bytes = b"",
    edits: bytes = b"",
    tracks: int = 1,
    before: bytes = b"",
) -> bytes:
    """Returns an MP4 file of uncompressed pictures of 2 x 2 pixels.

    Args:
        samples: Number of pictures that the header announces.
        stored: Number of pictures in the file; all of them by default.
        timescale: Ticks per second.
        ticks: Ticks that each picture is shown.
        size: Width and height that the header announces.
        matrix: Display matrix, 3 x 3.
        entry: Further boxes of the sample description.
        edits: Boxes of the track before its media.
        tracks: Number of equal tracks.
        before: Further boxes before the tracks.
    """
    kind = box(b"ftyp", b"qt  ", bytes(4), b"qt  ")
    pictures = b"".join(map(raw_picture, range(samples if stored is None else stored)))
    data = box(b"mdat", pictures)
    duration = min(samples * ticks, 0xFFFFFFFF)
    width, height = size
    description = struct.pack(">6xH16xHHIIIH32sHh", 1, width, height, 72 << 16, 72 << 16, 0, 1, b"", 24, -1)
    table = box(
        b"stbl",
        full_box(b"stsd", struct.pack(">I", 1), box(b"raw ", description, entry)),
        full_box(b"stts", struct.pack(">III", 1, samples, ticks)),
        full_box(b"stsc", struct.pack(">IIII", 1, 1, samples, 1)),
        full_box(b"stsz", struct.pack(">II", 12, samples)),
        full_box(b"stco", struct.pack(">II", 1, len(kind) + 8)),
    )
    media = box(
        b"mdia",
        full_box(b"mdhd", struct.pack(">8xIIHH", timescale, duration, 0, 0)),
        full_box(b"hdlr", b"mhlrvide", bytes(13)),
        box(
            b"minf",
            full_box(b"vmhd", bytes(8)),
            box(b"dinf", full_box(b"dref", struct.pack(">I", 1), box(b"url ", b"\0\0\0\1"))),
            table,
        ),
    )
    header = struct.pack(">8xI4xI16x9iII", 1, duration, *matrix, width << 16 & 0xFFFFFFFF, height << 16 & 0xFFFFFFFF)
    track = box(b"trak", box(b"tkhd", b"\0\0\0\7", header), edits, media)
    movie = full_box(b"mvhd", struct.pack(">8xII80x", timescale, duration), struct.pack(">I", 2))
    return kind + data + box(b"moov", movie, before, track * tracks)
