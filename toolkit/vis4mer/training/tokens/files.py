"""The encoder tokens of one movie on disk: a safetensors file that is written as a stream and read window by window.

The writer of safetensors takes whole tensors, so its memory would grow with the movie. This writer reserves space for
the header, appends the tokens as they are computed, and fills in the header at the end, when the number of frames is
known. Any safetensors reader opens the result.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vis4mer.errors import DataError
from vis4mer.files import atomic_file
from vis4mer.text import one_line
from vis4mer.training.config import TokenDtype

TORCH_DTYPES: dict[TokenDtype, torch.dtype] = {"bf16": torch.bfloat16, "fp32": torch.float32}

_SAFETENSORS_DTYPES = {torch.bfloat16: "BF16", torch.float32: "F32"}
_LENGTH_BYTES = 8  # a safetensors file begins with the length of its JSON header, a little-endian uint64
_DATA_START = 8192  # bytes reserved for that length and the header, which is padded with spaces
_TENSOR_NAME = "tokens"


@dataclass(frozen=True)
class TokenFile:
    """The tokens of one movie; reading a window reads only that part of the file.

    Attributes:
        path: Safetensors file.
        n_frames: T, encoded frames or segments.
        tokens_per_frame: P, tokens per frame or segment.
        features: D, features per token.
    """

    path: Path
    n_frames: int
    tokens_per_frame: int
    features: int

    @classmethod
    def open(cls, path: Path) -> Self:
        """Reads the header of a file.

        Raises:
            DataError: The file is not a complete token file.
        """
        with _opened(path) as file:
            tokens = file.get_slice(_TENSOR_NAME)
            shape, dtype = tokens.get_shape(), tokens.get_dtype()
        if len(shape) != 3 or 0 in shape or dtype not in _SAFETENSORS_DTYPES.values():
            raise _not_tokens(path, f"it holds {dtype} {shape}")
        return cls(path, *shape)

    def metadata(self) -> dict[str, str]:
        """Reads the texts that are stored with the tokens."""
        with _opened(self.path) as file:
            return dict(file.metadata() or {})

    def read(self, start: int, length: int) -> Tensor:
        """Reads frames ``start`` to ``start + length``.

        Returns:
            Tokens [length, P, D] in the file's dtype, zero after the end of the movie, as in the published protocol.

        Raises:
            DataError: The file was removed or damaged after it had been opened.
        """
        with _opened(self.path) as file:
            window: Tensor = file.get_slice(_TENSOR_NAME)[start : start + length]
        # A slice that reaches past the last frame is cut short, as in Python.
        missing = length - window.shape[0]
        if missing == 0:
            return window
        return torch.nn.functional.pad(window, (0, 0, 0, 0, 0, missing))

    def pick(self, indices: Sequence[int]) -> Tensor:
        """Reads single frames or segments, in the order of their indices.

        Returns:
            Tokens [len(indices), P, D] in the file's dtype.

        Raises:
            DataError: The file was removed or damaged after it had been opened.
        """
        with _opened(self.path) as file:
            tokens = file.get_slice(_TENSOR_NAME)
            # Slices of one frame read no more of the file than the frames that are needed.
            return torch.cat([tokens[index : index + 1] for index in indices])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        # Opened anew for each read: an open file cannot be sent to loader workers, and thousands of movies would exceed
        # the limit of open files. Errors of the caller's block arrive here too, so a damaged file is reported alike.
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise _not_tokens(path, one_line(str(error))) from None


def _not_tokens(path: Path, reason: str) -> DataError:
    return DataError.of("tokens", path, f"not a token file ({reason})", "delete it to encode it again")


def write_tokens(path: Path, batches: Iterable[Tensor], metadata: Mapping[str, str]) -> TokenFile:
    """Writes the tokens of a movie atomically, one batch in memory at a time.

    Args:
        path: File to create or replace.
        batches: Tokens [N, P, D] of consecutive frames on the CPU, all of one dtype (bfloat16 or float32).
        metadata: Texts to store in the header, a few kilobytes at most.

    Returns:
        The written file.

    Raises:
        DataError: There is no batch.
    """
    n_frames, frame_shape, dtype = 0, (0, 0), torch.float32
    with atomic_file(path) as file:
        file.seek(_DATA_START)
        for batch in batches:
            # NumPy has no bfloat16, so the bytes are written as they lie in memory. safetensors is little-endian, which
            # is the native order of x86 and Arm.
            file.write(batch.contiguous().view(torch.uint8).numpy().data)
            n_frames += batch.shape[0]
            frame_shape, dtype = (batch.shape[1], batch.shape[2]), batch.dtype
        if n_frames == 0:
            # Raised within the block, so that `atomic_file` removes the temporary file and none appears at `path`.
            raise DataError.of("tokens", path, "no frame was encoded")
        n_bytes = file.tell() - _DATA_START
        file.seek(0)
        file.write(_header(_SAFETENSORS_DTYPES[dtype], [n_frames, *frame_shape], n_bytes, metadata))
    return TokenFile(path, n_frames, *frame_shape)


def _header(dtype: str, shape: list[int], n_bytes: int, metadata: Mapping[str, str]) -> bytes:
    """Returns the `_DATA_START` bytes that precede the tokens."""
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, n_bytes]}
    text = json.dumps({"__metadata__": dict(metadata), _TENSOR_NAME: entry}).encode()
    capacity = _DATA_START - _LENGTH_BYTES
    if len(text) > capacity:
        raise ValueError(f"metadata={len(text)} bytes: must fit into the {capacity} bytes of the header")
    # The format allows spaces after the header's JSON, so the data can begin at a fixed offset.
    return struct.pack("<Q", capacity) + text.ljust(capacity)
