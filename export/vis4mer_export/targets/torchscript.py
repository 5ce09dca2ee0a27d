"""The torchscript target: a traced, frozen program that every LibTorch since 1.0 loads.

TorchScript is deprecated in favour of torch.export. It stays a target for the C++ services that run it today.
"""

import io
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vis4mer.devices.device import CPU
from vis4mer.errors import ExportError
from vis4mer.text import first_line
from vis4mer_export.targets.base import Built, GraphSource, Target, open_written


class TorchScriptTarget(Target):
    """TorchScript; its interpreter calls PyTorch's own operators, FFTs included."""

    name = "torchscript"
    suffix = "ts"
    lowerings = ("fft", "blocked_toeplitz", "matmul_dft")

    def build(self, source: GraphSource, path: Path, settings: Mapping[str, Any]) -> Built:
        """Traces and writes a module; see `Target`."""
        try:
            program = _trace(source)
        except (RuntimeError, ValueError, TypeError) as error:
            raise ExportError(f"{path.name}: TorchScript export failed: {first_line(error)}") from None
        _write_without_origins(program, path)
        return Built(open_written(self, source, path, CPU))


def _trace(source: GraphSource) -> io.BytesIO:
    import torch

    from vis4mer.runtime.backends.tf32 import ieee_convolutions

    # Saved to memory first, because the debugging records are removed before anything reaches the disk.
    program = io.BytesIO()
    # A trace stores for each convolution whether TF32 is allowed, so LibTorch on a GPU would use it without this.
    with warnings.catch_warnings(), torch.inference_mode(), ieee_convolutions():
        warnings.simplefilter("ignore")  # every call warns of the deprecation that this module's docstring states
        # check_trace would run the trace against the module, which the comparison after writing does anyway.
        traced = torch.jit.freeze(torch.jit.trace(source.module, (source.example,), check_trace=False))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, program)
    return program


def _write_without_origins(program: io.BytesIO, path: Path) -> None:
    """Writes all but the debugging records, which hold paths of the exporting machine and which LibTorch ignores."""
    with zipfile.ZipFile(program) as written, zipfile.ZipFile(path, "w") as kept:
        for entry in written.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                kept.writestr(entry, written.read(entry))
