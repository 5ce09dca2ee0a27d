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
from vis4mer.runtime.interface import ENCODER, GraphInterface

CASES_FILE = "parity.cases.npz"
MOVIE = "movie"

_MODEL, _LABELS, _PICTURES = "model", "labels", "pictures"


@dataclass(frozen=True)
class GraphCases:
    """Inputs of one graph and the eager model's outputs for them in fp32.

    Attributes:
        kinds: Kind of each input: ``random``; ``static``, tokens that hardly change; or ``movie``, a movie's own.
        inputs: [N, ...], of the graph's input type.
        outputs: [N, ...], float32.
        labels: Label that the eager model gives each case; None if the outputs are not classes, or for cases of an
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
            # `numpy.load` would also accept a single array, and return the bytes of an entry that is no array.
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                return cls({name.removesuffix(".npy"): _array(archive.read(name)) for name in archive.namelist()})
        # An encrypted entry raises RuntimeError, an unknown compression its subclass NotImplementedError.
        except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise _damaged(f"is not an array archive ({error})") from None

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
            inputs, kinds = self.arrays[f"inputs/{group}"], self.arrays[f"kinds/{group}"]
            outputs = self.arrays[f"outputs/{graph}"]
        except KeyError as error:
            raise _damaged(f"lacks {error} of {graph!r}") from None
        n = len(kinds) if kinds.ndim == 1 else 0
        if n == 0 or any(values.shape[:1] != (n,) or values.dtype.kind not in "iuf" for values in (inputs, outputs)):
            raise _damaged(f"must hold a kind, an input and an output, in numbers, for each case of {graph!r}")
        typed = inputs.astype(interface.input.dtype, copy=False)
        return GraphCases(tuple(map(str, kinds)), typed, outputs, self._labels(graph, n))

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
    model: ModelConfig, labels: Mapping[str, list[str]], pictures: NDArray[np.uint8] | None
) -> dict[str, NDArray[Any]]:
    """Returns the arrays of `Cases` that connect the tensors with what a user sees.

    Args:
        model: Configuration of the exported model.
        labels: Label that the eager model gives each case, by classification head.
        pictures: Pictures, uint8 [M, H, W, 3], of the encoder's inputs from a movie; None without any.
    """
    # JSON text, because NumPy's own strings lose trailing null characters.
    texts = {_MODEL: model.to_dict(), _LABELS: dict(labels)}
    arrays: dict[str, NDArray[Any]] = {name: np.array(json.dumps(values)) for name, values in texts.items()}
    return arrays if pictures is None else arrays | {_PICTURES: pictures}


def _array(data: bytes) -> NDArray[Any]:
    # Unpickling would run code from the file.
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


def _damaged(rule: str) -> BundleError:
    return BundleError.of("file", CASES_FILE, rule, "export the bundle again")
