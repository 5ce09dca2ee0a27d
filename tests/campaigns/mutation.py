"""Damages bytes as disks, networks, careless programs and attackers do, reproducibly by a seed."""

import random
from collections.abc import Callable

# Lengths and counts in headers matter most, so half of all changes hit the first bytes.
_HEADER_BYTES = 4096
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def mutate(data: bytes, seed: int) -> bytes:
    """Returns `data` with one to eight changes; the same bytes for the same seed.

    Args:
        data: Bytes to change, at least one.
        seed: Seed of the changes.
    """
    rng = random.Random(seed)
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 5, 8))):
        if changed:
            rng.choice(_CHANGES)(changed, rng)
    return bytes(changed)


def _place(data: bytearray, rng: random.Random) -> int:
    end = min(len(data), _HEADER_BYTES) if rng.random() < 0.5 else len(data)
    return rng.randrange(end)


def _span(data: bytearray, rng: random.Random) -> slice:
    start = _place(data, rng)
    return slice(start, start + rng.choice((1, 4, 16, 188, 1024, len(data) // 8 + 1)))


def _flip_bit(data: bytearray, rng: random.Random) -> None:
    data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _set_integer(data: bytearray, rng: random.Random) -> None:
    """Writes an extreme value where a length or a count may stand."""
    start, size = _place(data, rng), rng.choice((1, 2, 4, 8))
    value = rng.choice(_EXTREMES) & ((1 << 8 * size) - 1)
    data[start : start + size] = value.to_bytes(size, rng.choice(("big", "little")))


def _randomise(data: bytearray, rng: random.Random) -> None:
    span = _span(data, rng)
    data[span] = rng.randbytes(len(data[span]))


def _zero(data: bytearray, rng: random.Random) -> None:
    span = _span(data, rng)
    data[span] = bytes(len(data[span]))


def _delete(data: bytearray, rng: random.Random) -> None:
    del data[_span(data, rng)]


def _insert(data: bytearray, rng: random.Random) -> None:
    start = _place(data, rng)
    data[start:start] = rng.randbytes(rng.choice((1, 4, 188, 1024)))


def _repeat(data: bytearray, rng: random.Random) -> None:
    """Copies one span over another place, as a broken concatenation does."""
    span, start = _span(data, rng), _place(data, rng)
    data[start:start] = data[span]


def _truncate(data: bytearray, rng: random.Random) -> None:
    del data[_place(data, rng) :]


_CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip_bit,
    _set_integer,
    _randomise,
    _zero,
    _delete,
    _insert,
    _repeat,
    _truncate,
)
