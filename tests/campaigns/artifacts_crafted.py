"""Files that an attacker would craft: payloads that run a program, archives that grow, headers that state too much."""

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

Crafted = Mapping[str, Callable[[], bytes]]
"""Functions that make hostile files, by name: some take seconds and a gigabyte to make."""

_ZEROS = bytes(1 << 20)


class _Payload:
    """An object whose unpickling calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call


def weight_files(marker: Path) -> Crafted:
    """Returns hostile files of torch.save.

    Args:
        marker: File that the payloads would create.
    """
    payloads = {
        "os.system": _Payload(os.system, f"touch {marker}"),
        "open": _Payload(open, str(marker), "w"),
        "exec": _Payload(exec, f"open({str(marker)!r}, 'w')"),
        "eval": _Payload(eval, f"open({str(marker)!r}, 'w')"),
        "torch.load": _Payload(torch.load, str(marker)),
        "Path.touch": _Payload(Path.touch, marker),
    }
    files: dict[str, Callable[[], bytes]] = {}
    for name, payload in payloads.items():
        state = {"s4_layers.0.D": torch.zeros(4), "payload": payload}
        files[f"{name}, pickle"] = partial(pickle.dumps, state)
        files[f"{name}, zip"] = partial(_saved, state)
        files[f"{name}, legacy"] = partial(_saved, state, zipped=False)
    zeros = torch.zeros(1)
    return files | {
        # PyTorch's reader takes a hundred times the size of such a pickle.
        "deep": lambda: b"(" * 2_000_000,
        "memo": lambda: b"\x80\x02" + b"X\x01\x00\x00\x00a" + b"r\xff\xff\xff\x7f.",
        "long string": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62),
        "frame": lambda: b"\x80\x04\x95" + struct.pack("<Q", (1 << 63) - 1) + b".",
        "zip bomb": lambda: _archive({"archive/data.pkl": [_ZEROS] * 1024}, zipfile.ZIP_DEFLATED),
        "zip bomb, stored sizes": lambda: _overstated(_saved({"s4_layers.0.D": zeros})),
        "expanded": lambda: _saved({"s4_layers.0.D": zeros.expand(1 << 40)}),
        "huge shape": lambda: _saved({"s4_layers.0.D": zeros.as_strided((1 << 20, 1 << 20), (0, 0))}),
    }


def safetensors_files() -> Crafted:
    """Returns hostile safetensors files."""
    files: dict[str, Callable[[], bytes]] = {
        f"length 2**{power}": partial(lambda power: struct.pack("<Q", 1 << power) + b"{}", power)
        for power in (31, 40, 62, 63)
    }
    files["length 2**64 - 1"] = lambda: b"\xff" * 8 + b"{}"
    for name, shape, offsets in (
        ("huge shape", [1 << 62, 4], [0, 8]),
        ("overflowing shape", [1 << 32, 1 << 32], [0, 0]),
        ("huge offsets", [4], [0, 1 << 63]),
        ("negative offsets", [4], [-16, 0]),
        ("reversed offsets", [4], [16, 0]),
    ):
        entry = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        files[name] = partial(_safetensors, {"tokens": entry, "encoder.model.cls_token": entry})
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    files["deep header"] = lambda: _with_header(b"[" * 5_000_000)
    files["many tensors"] = lambda: _safetensors({f"t{i}": empty for i in range(200_000)})
    return files


def array_archives() -> Crafted:
    """Returns hostile .npz files."""
    return {
        "array bomb": lambda: _array((1 << 30,), [_ZEROS] * 1024),
        "huge shape": lambda: _array((1 << 60,), [bytes(64)]),
        "negative shape": lambda: _array((-1, 4), [bytes(64)]),
        "pickled array": _pickled_array,
        "many members": lambda: _archive({f"{i}.npy": [] for i in range(20_000)}, zipfile.ZIP_STORED),
    }


def json_files() -> Crafted:
    """Returns hostile JSON files."""
    return {
        "deep lists": lambda: b"[" * 1_000_000,
        "deep objects": lambda: b'{"a":' * 1_000_000,
        "long number": lambda: b'{"schema_version": ' + b"9" * 1_000_000 + b"}",
        "17 MiB": lambda: b'{"a": "' + b"x" * (17 << 20) + b'"}',
        "empty": lambda: b"",
        "null": lambda: b"null",
        "UTF-16": lambda: '{"a": 1}'.encode("utf-16"),
    }


def _saved(state: Mapping[str, Any], *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(state), buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def _array(shape: tuple[int, ...], data: Iterable[bytes]) -> bytes:
    """Returns an archive of one array of bytes whose header states a shape."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return _archive({"inputs/encoder.npy": [header.getvalue(), *data]}, zipfile.ZIP_DEFLATED)


def _pickled_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([_Payload(os.getpid)], dtype=object))
    return _archive({"inputs/encoder.npy": [buffer.getvalue()]}, zipfile.ZIP_STORED)


def _archive(members: Mapping[str, Iterable[bytes]], compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, parts in members.items():
            with archive.open(name, "w") as member:
                for part in parts:
                    member.write(part)
    return buffer.getvalue()


def _overstated(data: bytes) -> bytes:
    """Lets the central directory of a zip archive state that every member has 2 GB."""
    changed, place = bytearray(data), 0
    while (place := changed.find(b"PK\x01\x02", place)) >= 0:
        changed[place + 20 : place + 28] = struct.pack("<II", 2_000_000_000, 2_000_000_000)
        place += 4
    return bytes(changed)


def _safetensors(header: Mapping[str, Any]) -> bytes:
    return _with_header(json.dumps(header).encode()) + bytes(64)


def _with_header(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header
