"""The TorchScript target: a traced, frozen program that every LibTorch since 1.0 loads.

TorchScript is deprecated in favour of torch.export; it stays a target for the C++ services that run it today.
"""

import io
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from vis4mer.errors import ExportError


def export_graph(module: nn.Module, example: Tensor, path: Path) -> None:
    """Writes `module` as a TorchScript file with one input and one output, whose first axis is dynamic.

    Args:
        module: in evaluation mode.
        example: an input.
        path: of the file to write.

    Raises:
        ExportError: the module cannot be traced.
    """
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # every call warns of the deprecation that the module's docstring states
            # The comparison with the eager model follows after writing; tracing twice would only repeat it.
            traced = torch.jit.freeze(torch.jit.trace(module, (example,), check_trace=False))  # type: ignore[no-untyped-call]
            buffer = io.BytesIO()
            torch.jit.save(traced, buffer)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ExportError(f"{path.name}: TorchScript export failed: {str(error).splitlines()[0]}") from None
    # LibTorch does without the notes of which source line made what; they hold the paths of the exporting machine.
    with zipfile.ZipFile(buffer) as written, zipfile.ZipFile(path, "w") as kept:
        for entry in written.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                kept.writestr(entry, written.read(entry))
