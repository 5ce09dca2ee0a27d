"""Files that an attacker would craft: payloads that run a program, archives that grow, headers that state too much."""

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch


class _Payload:
    """An object whose unpickling calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call


def weight_files(marker: Path) -> Mapping[str, bytes]:
    """Returns hostile files of torch.save by name.

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
    files = {}
    for name, payload in payloads.items():
        state = {"s4_layers.0.D": torch.zeros(4), "payload": payload}
        files[f"{name}, pickle"] = pickle.dumps(state)
        for zipped in (True, False):
            buffer = io.BytesIO()
            torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
            files[f"{name}, {'zip' if zipped else 'legacy'}"] = buffer.getvalue()
    # PyTorch's reader takes a hundred times the size of such a pickle.
    files["deep"] = b"(" * 2_000_000
    files["memo"] = b"\x80\x02" + b"X\x01\x00\x00\x00a" + b"r\xff\xff\xff\x7f."
    files["long string"] = b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62)
    files["frame"] = b"\x80\x04\x95" + struct.pack("<Q", (1 << 63) - 1) + b"."
    files["zip bomb"] = _archive({"archive/data.pkl": bytes(1 << 30)}, zipfile.ZIP_DEFLATED)
    files["zip bomb, stored sizes"] = _overstated(_saved({"s4_layers.0.D": torch.zeros(4)}))
    files["expanded"] = _saved({"s4_layers.0.D": torch.zeros(1).expand(1 << 40)})
    files["huge shape"] = _saved({"s4_layers.0.D": torch.zeros(1).as_strided((1 << 20, 1 << 20), (0, 0))})
    return files


def safetensors_files() -> Mapping[str, bytes]:
    """Returns hostile safetensors files by name."""
    files = {
        f"length 2**{power}": struct.pack("<Q", (1 << power) - (power == 64)) + b"{}" for power in (31, 40, 62, 63)
    }
    files["length 2**64 - 1"] = b"\xff" * 8 + b"{}"
    for name, shape, offsets in (
        ("huge shape", [1 << 62, 4], [0, 8]),
        ("overflowing shape", [1 << 32, 1 << 32], [0, 0]),
        ("huge offsets", [4], [0, 1 << 63]),
        ("negative offsets", [4], [-16, 0]),
        ("reversed offsets", [4], [16, 0]),
    ):
        entry = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        files[name] = _safetensors({"tokens": entry, "encoder.model.cls_token": entry})
    files["deep header"] = _with_header(b"[" * 5_000_000)
    files["many tensors"] = _safetensors(
        {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(200_000)}
    )
    return files


def array_archives() -> Mapping[str, bytes]:
    """Returns hostile .npz files by name."""
    files = {}
    for name, shape in (("array bomb", (1 << 30,)), ("huge shape", (1 << 60,)), ("negative shape", (-1, 4))):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        size = (1 << 30) if name == "array bomb" else 64
        files[name] = _archive({"inputs/encoder.npy": header.getvalue() + bytes(size)}, zipfile.ZIP_DEFLATED)
    buffer = io.BytesIO()
    np.save(buffer, np.array([_Payload(os.getpid)], dtype=object))
    files["pickled array"] = _archive({"inputs/encoder.npy": buffer.getvalue()}, zipfile.ZIP_STORED)
    files["many members"] = _archive({f"{i}.npy": b"" for i in range(20_000)}, zipfile.ZIP_STORED)
    return files


def json_files() -> Mapping[str, bytes]:
    """Returns hostile JSON files by name."""
    return {
        "deep lists": b"[" * 1_000_000,
        "deep objects": b'{"a":' * 1_000_000,
        "long number": b'{"schema_version": ' + b"9" * 1_000_000 + b"}",
        "17 MiB": b'{"a": "' + b"x" * (17 << 20) + b'"}',
        "empty": b"",
        "null": b"null",
        "UTF-16": '{"a": 1}'.encode("utf-16"),
    }


def _saved(state: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def _archive(members: Mapping[str, bytes], compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
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
