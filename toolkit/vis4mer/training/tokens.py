"""One movie's encoder tokens on disk: a safetensors file that is written as a stream and read by windows.

safetensors' own writer takes whole tensors, so the memory of a writer would grow with the movie. Here the header's
room is left free at the start, the tokens follow as they are computed, and the header is filled in at the end, when
the number of frames is known. Any safetensors reader opens the result.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vis4mer.errors import DataError
from vis4mer.files import atomic_file

TokenDtype = Literal["bf16", "fp32"]

TORCH_DTYPES: dict[TokenDtype, torch.dtype] = {"bf16": torch.bfloat16, "fp32": torch.float32}

_SAFETENSORS_DTYPES = {torch.bfloat16: "BF16", torch.float32: "F32"}
_DATA_START = 8192  # bytes left for the header: 8 of its length, then JSON padded with spaces
_NAME = "tokens"


@dataclass(frozen=True)
class TokenFile:
    """The tokens of one movie; only the windows that are asked for are read.

    Attributes:
        path: of the safetensors file.
        frames: T, encoded frames or segments.
        tokens: P, tokens per frame or segment.
        features: D, features per token.
    """

    path: Path
    frames: int
    tokens: int
    features: int

    @classmethod
    def open(cls, path: Path) -> Self:
        """Reads the file's header.

        Raises:
            DataError: the file is not a whole token file.
        """
        with _opened(path) as file:
            shape = file.get_slice(_NAME).get_shape()
        return cls(path, *shape)

    def metadata(self) -> dict[str, str]:
        """Reads the text that was stored with the tokens."""
        with _opened(self.path) as file:
            return dict(file.metadata())

    def read(self, start: int, length: int) -> Tensor:
        """Reads frames ``start`` to ``start + length``.

        Returns:
            Tokens [length, P, D] in the file's dtype; zeros where the movie has ended, as in the published protocol.

        Raises:
            DataError: the file is gone, or was damaged since it was opened.
        """
        with _opened(self.path) as file:
            window: Tensor = file.get_slice(_NAME)[start : start + length]
        missing = length - window.shape[0]
        return torch.nn.functional.pad(window, (0, 0, 0, 0, 0, missing)) if missing else window

    def pick(self, indices: Sequence[int]) -> Tensor:
        """Reads the frames or segments of the given numbers, in that order.

        Returns:
            Tokens [len(indices), P, D] in the file's dtype.

        Raises:
            DataError: the file is gone, or was damaged since it was opened.
        """
        with _opened(self.path) as file:
            tokens = file.get_slice(_NAME)
            return torch.cat([tokens[index : index + 1] for index in indices])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise DataError(f"tokens={str(path)!r}: not a token file ({error}); delete it to encode it anew") from None


def write_tokens(path: Path, batches: Iterable[Tensor], metadata: Mapping[str, str]) -> TokenFile:
    """Writes a movie's tokens atomically, holding one batch at a time.

    Args:
        path: the file to create or replace.
        batches: tokens [N, P, D] of consecutive frames, all of one dtype (bfloat16 or float32), on the CPU.
        metadata: text stored in the file's header, a few kilobytes at most.

    Returns:
        The written file.

    Raises:
        DataError: there is no batch.
    """
    frames, shape, dtype = 0, (0, 0), torch.float32
    with atomic_file(path) as file:
        file.seek(_DATA_START)
        for batch in batches:
            file.write(batch.contiguous().view(torch.uint8).numpy().data)
            frames += batch.shape[0]
            shape, dtype = (batch.shape[1], batch.shape[2]), batch.dtype
        if not frames:
            raise DataError(f"tokens={str(path)!r}: no frame was encoded")
        n_bytes = file.tell() - _DATA_START
        entry = {"dtype": _SAFETENSORS_DTYPES[dtype], "shape": [frames, *shape], "data_offsets": [0, n_bytes]}
        header = json.dumps({"__metadata__": dict(metadata), _NAME: entry}).encode()
        if len(header) > _DATA_START - 8:
            raise ValueError(f"metadata of {len(header)} bytes does not fit the header's {_DATA_START - 8}")
        file.seek(0)
        file.write(struct.pack("<Q", _DATA_START - 8) + header.ljust(_DATA_START - 8))
    return TokenFile(path, frames, *shape)
