"""Bounds the tables that the header of an MP4 file announces, before FFmpeg allocates them.

A header of a few hundred bytes may announce any number of samples of equal size. FFmpeg makes an index entry of 24
bytes for each of them, whether or not the file holds the sample, and an edit list repeats the entries once per edit. No
option of FFmpeg limits this.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

# 800 MB of index. A day at 60 frames per second has 5 million frames.
MAX_ENTRIES = 1 << 25
# Editing programs write a handful. FFmpeg's time grows with the square of the number.
MAX_EDITS = 1000

# Boxes that consist of boxes.
_FOLDERS = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf"))
_BOX = struct.Struct(">I4s")
# Where numbers stand in the content of a box, which begins with version and flags.
_COUNT = struct.Struct(">4xI")
_SAMPLE_COUNT = struct.Struct(">8xI")
_FIRST_DURATION = struct.Struct(">12xI")
_HANDLER = struct.Struct(">8xI")
_SOUND, _VIDEO = int.from_bytes(b"soun", "big"), int.from_bytes(b"vide", "big")


@dataclass
class _Track:
    samples: int = 0
    edits: int = 0
    is_sound: bool = False
    ticks_per_sample_is_1: bool = False

    @property
    def entries(self) -> int:
        """Entries that FFmpeg makes for the track; uncompressed sound has one per chunk, which are in the file."""
        by_chunk = self.is_sound and self.ticks_per_sample_is_1
        return 0 if by_chunk else self.samples * max(1, self.edits)


def excess(file: BinaryIO, size: int) -> str:
    """Returns why a file's tables are too long, as the rule of an error message; empty if they are not.

    Args:
        file: Open file. In one that is not an MP4 file, the first bytes that are no box end the search.
        size: Size of the file in bytes.
    """
    tracks, fragments = [_Track()], 0
    for kind, start in _boxes(file, size):
        track = tracks[-1]
        match kind:
            case b"trak":
                tracks.append(_Track())
            case b"stsz" | b"stz2":
                track.samples = max(track.samples, _read(file, start, _SAMPLE_COUNT))
            case b"elst":
                track.edits = max(track.edits, _read(file, start, _COUNT))
            case b"hdlr":
                handler = _read(file, start, _HANDLER)
                track.is_sound = handler == _SOUND or (track.is_sound and handler != _VIDEO)
            case b"stts":
                track.ticks_per_sample_is_1 = (
                    _read(file, start, _COUNT) == 1 and _read(file, start, _FIRST_DURATION) == 1
                )
            case b"trun":
                fragments += _read(file, start, _COUNT)
    entries, edits = fragments + sum(track.entries for track in tracks), max(track.edits for track in tracks)
    if edits > MAX_EDITS:
        return f"its header lists {edits:,} edits, and at most {MAX_EDITS:,} are applied"
    if entries > min(size, MAX_ENTRIES):  # every sample takes a byte at least
        return (
            f"its header lists {entries:,} samples, and {min(size, MAX_ENTRIES):,} are the most for its {size:,} bytes"
        )
    return ""


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """Yields the kind of each box and the place of its content, depth first; a box never exceeds the one around it."""
    position, ends = 0, [size]
    while True:
        while ends and position + _BOX.size > ends[-1]:
            position = ends.pop()
        if not ends:
            return
        file.seek(position)
        header = file.read(16)
        if len(header) < _BOX.size:
            return
        length, kind = _BOX.unpack_from(header)
        start = position + _BOX.size
        if length == 1 and len(header) == 16:  # the length follows in 64 bits
            length, start = int.from_bytes(header[8:], "big"), position + 16
        elif length == 0:  # the rest of the box around it
            length = ends[-1] - position
        if position + length < start:
            position = ends.pop()  # not a box; FFmpeg, too, then leaves the box around it
            continue
        yield kind, start
        end = min(position + length, ends[-1])
        position = start if kind in _FOLDERS else end
        if kind in _FOLDERS:
            ends.append(end)


def _read(file: BinaryIO, start: int, layout: struct.Struct) -> int:
    """Returns the single number at a place of the file; 0 at its end."""
    file.seek(start)
    content = file.read(layout.size)
    return int(layout.unpack(content)[0]) if len(content) == layout.size else 0
