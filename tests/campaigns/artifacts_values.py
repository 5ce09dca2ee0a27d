"""Changes within structured files: values, keys and types that a syntactically correct file may hold."""

import io
import json
import math
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from tests.campaigns.mutation import mutate

_HEADER_BYTES = 8  # a safetensors file begins with the length of its JSON header, a little-endian uint64

Mutation = Callable[[bytes, int], bytes]


def mutate_value(value: Any, rng: random.Random) -> Any:
    """Returns a copy of nested dictionaries, lists and leaves in which one value or key, at any depth, is another."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        changed = dict(value)
        match rng.randrange(10):
            case 0:
                del changed[key]
            case 1:
                changed[_extreme(rng)] = changed.pop(key)
            case _:
                changed[key] = mutate_value(value[key], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        match rng.randrange(6):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return value + [value[place]] * rng.choice((1, 1000))
        return [*value[:place], mutate_value(value[place], rng), *value[place + 1 :]]
    if isinstance(value, Tensor) and rng.random() < 0.7:
        return _other_tensor(value, rng)
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.4:
        return rng.choice((-value, value + 1, value * 1000, float(value), value / 3))
    return rng.choice((_extreme(rng), [], {}, [value], {"a": value}, _nested(rng.choice((3, 900)))))


def _extreme(rng: random.Random) -> Any:
    numbers = (0, -1, 1, 2, 2**31, 2**63, 2**64, 10**400, 0.5, 1e308, math.nan, math.inf, -math.inf)
    texts = ("", "x" * 1000, "é\0", "\ud800", "../../etc/passwd", "1", "true", "__class__", "%s%n", "\x1b[31m")
    return rng.choice((None, True, False, *numbers, *texts))


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def _other_tensor(tensor: Tensor, rng: random.Random) -> Tensor:
    match rng.randrange(6):
        case 0:
            return tensor.flatten()
        case 1:
            return tensor[:0] if tensor.dim() else tensor.reshape(1)
        case 2:
            return torch.full_like(tensor, math.nan) if tensor.is_floating_point() else tensor.float()
        case 3:
            return tensor.to(rng.choice((torch.int8, torch.bool, torch.complex64, torch.float16)))
        case 4:
            return tensor.to_sparse() if tensor.dim() else tensor
    return tensor.unsqueeze(0).expand(rng.choice((2, 2**40)), *tensor.shape)


def _json(data: bytes, seed: int) -> bytes:
    changed = _changed(json.loads(data), seed)
    return json.dumps(changed, indent=1, default=str).encode("utf-8", "surrogatepass")


def _json_lines(data: bytes, seed: int) -> bytes:
    changed = _changed([json.loads(line) for line in data.splitlines()], seed)
    lines = changed if isinstance(changed, list) else [changed]
    return "".join(json.dumps(line, default=str) + "\n" for line in lines).encode("utf-8", "surrogatepass")


def _yaml(data: bytes, seed: int) -> bytes:
    text: str = yaml.safe_dump(_changed(yaml.safe_load(data), seed), sort_keys=False)
    return text.encode("utf-8", "surrogatepass")


def _safetensors(data: bytes, seed: int) -> bytes:
    (length,) = struct.unpack("<Q", data[:_HEADER_BYTES])
    start = _HEADER_BYTES + length
    header = _json(data[_HEADER_BYTES:start].rstrip(), seed)
    stated = len(header) if random.Random(seed).random() < 0.9 else random.Random(seed).choice((0, 2**63, 2**64 - 1))
    return struct.pack("<Q", stated) + header + data[start:]


def _torch(data: bytes, seed: int) -> bytes:
    buffer = io.BytesIO()
    torch.save(_changed(torch.load(io.BytesIO(data), weights_only=True), seed), buffer)
    return buffer.getvalue()


def _arrays(data: bytes, seed: int) -> bytes:
    rng = random.Random(seed)
    with np.load(io.BytesIO(data)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = rng.choice(list(arrays))
    array = arrays[name]
    match rng.randrange(7):
        case 0:
            del arrays[name]
        case 1:
            arrays[name] = array.ravel()
        case 2:
            arrays[name] = array[:0]
        case 3:
            arrays[name] = np.array(_extreme(rng), dtype=str)
        case 4:
            arrays[name] = array.astype(rng.choice(("S8", "U8", "f8", "?"))) if array.dtype.kind in "fui" else array[:1]
        case 5:
            arrays[name] = np.full_like(array, np.nan) if array.dtype.kind == "f" else np.zeros_like(array)
        case 6:
            arrays[name] = np.zeros((10_000_000, 4), np.float32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _changed(value: Any, seed: int) -> Any:
    rng = random.Random(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = mutate_value(value, rng)
    return value


_BY_SUFFIX: dict[str, Mutation] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".yaml": _yaml,
    ".safetensors": _safetensors,
    ".pt": _torch,
    ".npz": _arrays,
}


def mutate_file(data: bytes, suffix: str, seed: int) -> bytes:
    """Returns a file with changed bytes or, for every second seed and where its format has any, changed values.

    Args:
        data: Content of the file.
        suffix: Suffix of its name, such as ``.json``.
        seed: Seed of the change.
    """
    structured = _BY_SUFFIX.get(suffix)
    if structured is None or seed % 2 == 0:
        return mutate(data, seed)
    try:
        return structured(data, seed)
    except Exception:  # the format cannot hold the value, which each library reports in its own way
        return mutate(data, seed)
