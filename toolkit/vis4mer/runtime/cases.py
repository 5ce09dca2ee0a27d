"""The cases of a bundle: inputs of its graphs, and what the model that was exported made of them."""

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vis4mer.config import ModelConfig
from vis4mer.errors import BundleError, ConfigError
from vis4mer.runtime.interface import ENCODER, GraphInterface, shown
from vis4mer.runtime.manifest import Precision
from vis4mer.text import first_line

CASES_FILE = "parity.cases.npz"
MOVIE = "movie"

# The cases of an export are a few, and random ones do not compress. These bounds leave room for many more, and keep a
# file of a megabyte from filling the memory.
_MOST_CASES = 64
_MOST_BYTES, _MOST_GROWTH = 256 << 20, 16

# What reading a damaged archive raises. NumPy reports a header that states a huge array as a MemoryError.
_DAMAGE = (OSError, ValueError, EOFError, KeyError, TypeError, NotImplementedError, RuntimeError, MemoryError)

_MODEL, _PRECISION, _LABELS, _PICTURES = "model", "precision", "labels", "pictures"


@dataclass(frozen=True)
class GraphCases:
    """Inputs of one graph and the eager model's outputs for them in fp32.

    Attributes:
        kinds: Kind of each input: ``random``; ``static``, tokens that hardly change; or ``movie``, a movie's own.
        inputs: [N, ...], of the graph's input type.
        outputs: [N, ...], float32.
        labels: Label of the eager model's answer to each case; None if the outputs are not classes, or for cases of an
            export that did not store it.
    """

    kinds: tuple[str, ...]
    inputs: NDArray[Any]
    outputs: NDArray[np.float32]
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Cases:
    """The cases of every graph of a bundle, as one .npz file.

    Attributes:
        arrays: Arrays by name: ``inputs/GROUP`` and ``kinds/GROUP`` of the groups ``encoder`` and ``heads``, since all
            heads have the same inputs, and ``outputs/GRAPH``. ``model`` and ``labels`` hold JSON text: the exported
            model's configuration, and the label of each case by classification head. ``pictures``, uint8
            [M, H, W, 3], holds the RGB pictures whose resized form are the encoder's inputs of the kind ``movie``.
    """

    arrays: Mapping[str, NDArray[Any]]

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads the output of `to_bytes`.

        Raises:
            BundleError: The data is not an array archive.
        """
        try:
            _check_sizes(data)
            # Unpickling would run code from the file. Arrays are decompressed when they are accessed, so all of them
            # are read inside this block, where damage is reported.
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except (*_DAMAGE, zipfile.BadZipFile, zlib.error) as error:
            raise _damaged(f"is not an array archive ({first_line(error)})") from None
        # A member that is no array is returned as its bytes.
        if strays := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise _damaged(f"holds {strays[0]!r}, which is no array")
        return cls(arrays)

    def to_bytes(self) -> bytes:
        """Returns the cases as a compressed .npz file."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **self.arrays)
        return buffer.getvalue()

    def of(self, graph: str, interface: GraphInterface) -> GraphCases:
        """Returns the cases of one graph.

        Args:
            graph: Name of the graph.
            interface: Interface of the graph. Features are stored in half precision, and the eager model was run on
                the rounded values, so converting them to the input's type is exact.

        Raises:
            BundleError: There are no cases of the graph, or they are malformed.
        """
        group = ENCODER if graph == ENCODER else "heads"
        try:
            inputs, kinds, outputs = (
                self.arrays[name] for name in (f"inputs/{group}", f"kinds/{group}", f"outputs/{graph}")
            )
        except KeyError as error:
            raise _damaged(f"lacks {error} of {graph!r}") from None
        if inputs.dtype.kind not in "fiu" or kinds.ndim != 1 or not 1 <= len(kinds) <= _MOST_CASES:
            raise _damaged(f"holds malformed cases of {graph!r}")
        inputs = inputs.astype(interface.input.dtype, copy=False)
        for spec, array in ((interface.input, inputs), (interface.output, outputs)):
            sizes = spec.dynamic_sizes(array)
            if sizes is None or len(array) != len(kinds):
                raise _damaged(f"holds {shown(array)} for {len(kinds)} cases of {spec} of {graph!r}")
        return GraphCases(tuple(map(str, kinds)), inputs, outputs, self._labels(graph, len(inputs)))

    @property
    def model(self) -> ModelConfig | None:
        """Configuration of the model that was exported; None in cases of an export that did not store it.

        Raises:
            BundleError: It is malformed.
        """
        if _MODEL not in self.arrays:
            return None
        try:
            return ModelConfig.from_dict(self._json(_MODEL))
        except ConfigError as error:
            raise _damaged(f"holds an invalid model ({error})") from None

    @property
    def precision(self) -> str | None:
        """Precision of the export, which sets the tolerance of its graphs; None in cases that do not store it."""
        return str(self.arrays[_PRECISION]) if _PRECISION in self.arrays else None

    @property
    def pictures(self) -> NDArray[np.uint8] | None:
        """Pictures, uint8 [M, H, W, 3], that resizing turns into the encoder's inputs from a movie; None without any.

        Raises:
            BundleError: They are malformed.
        """
        pictures = self.arrays.get(_PICTURES)
        if pictures is None:
            return None
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[-1] != 3 or 0 in pictures.shape:
            raise _damaged("holds pictures that are not uint8 [M, H, W, 3]")
        return pictures

    def _labels(self, graph: str, n: int) -> tuple[str, ...] | None:
        labels = self._json(_LABELS).get(graph) if _LABELS in self.arrays else None
        if labels is None:
            return None
        if not isinstance(labels, list) or len(labels) != n:
            raise _damaged(f"holds {labels!r} as labels of the {n} cases of {graph!r}")
        return tuple(map(str, labels))

    def _json(self, name: str) -> dict[str, Any]:
        try:
            values = json.loads(str(self.arrays[name]))
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise _damaged(f"holds a {name} that is not a JSON object")
        return values


def recorded(
    model: ModelConfig, precision: Precision, labels: Mapping[str, list[str]], pictures: NDArray[np.uint8] | None
) -> dict[str, NDArray[Any]]:
    """Returns the arrays of `Cases` that connect the tensors with what a user sees.

    Args:
        model: Configuration of the exported model.
        precision: Precision of the export.
        labels: Label of the eager model's answer to each case, by classification head.
        pictures: Pictures, uint8 [M, H, W, 3], of the encoder's inputs from a movie; None without any.
    """
    # JSON text, because NumPy's own strings lose trailing null characters.
    texts = {_MODEL: model.to_dict(), _LABELS: dict(labels)}
    arrays: dict[str, NDArray[Any]] = {name: np.array(json.dumps(values)) for name, values in texts.items()}
    arrays[_PRECISION] = np.array(precision)
    return arrays if pictures is None else arrays | {_PICTURES: pictures}


def _check_sizes(data: bytes) -> None:
    """Raises ValueError for an archive whose members would take far more memory than an export's."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > max(_MOST_BYTES, _MOST_GROWTH * len(data)):
        raise ValueError(f"its {len(data)} bytes unpack to {size}")


def _damaged(rule: str) -> BundleError:
    return BundleError.of("file", CASES_FILE, rule, "export the bundle again")
