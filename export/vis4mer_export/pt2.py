"""The pt2 target: torch.export compiled ahead of time by AOTInductor, TorchScript's successor.

A package holds machine code for one kind of device and the instruction set of the machine that compiled it.
"""

import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from vis4mer.errors import ExportError

_LARGEST_BATCH = 1 << 16


def export_graph(module: nn.Module, example: Tensor, path: Path) -> None:
    """Writes `module` as a .pt2 package with one input and one output, whose first axis is dynamic.

    Args:
        module: in evaluation mode, on the device to compile for.
        example: an input on the same device; its first axis must be at least 2, since tracing would take 1 for a
            constant.
        path: of the file to write.

    Raises:
        ExportError: the module cannot be exported or compiled, most often for lack of a C++ compiler.
    """
    batch = torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)
    compiler_log = logging.getLogger("torch._inductor")
    level = compiler_log.level
    compiler_log.setLevel(logging.ERROR)  # it warns of operators without a C interface and of absent GPUs
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, (example,), dynamic_shapes=({0: batch},))
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    except Exception as error:  # the compiler raises whatever its many stages do
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ExportError(
            f"{path.name}: pt2 export failed: {reason}; AOTInductor needs a C++ compiler (apt install g++)"
        ) from None
    finally:
        compiler_log.setLevel(level)
