"""The dynamic axes of a graph's interface, as PyTorch's exporters take them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vis4mer.runtime.interface import GraphInterface

# Upper bound of a dynamic axis, beyond any batch of frames.
_LARGEST_SIZE = 1 << 16


def dynamic_shapes(interface: "GraphInterface") -> tuple[dict[int, Any], ...]:
    """Returns, for each input, a `torch.export.Dim` for each of its dynamic axes.

    Axes of one name have one `Dim`, and so the same size. A size of one is valid, although the example of a
    `vis4mer_export.targets.base.GraphSource` is larger.
    """
    import torch

    names = {axis for tensor in interface.inputs for axis in tensor.axes if isinstance(axis, str)}
    dims = {name: torch.export.Dim(name, min=1, max=_LARGEST_SIZE) for name in names}
    return tuple(
        {i: dims[axis] for i, axis in enumerate(tensor.axes) if isinstance(axis, str)} for tensor in interface.inputs
    )
