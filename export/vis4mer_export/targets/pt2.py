"""The pt2 target: torch.export compiled ahead of time by AOTInductor, TorchScript's successor.

A package holds machine code for one kind of device: for the CPU in the instruction set of the machine that compiled it,
for a GPU of the compiling one's type and, if there is a CUDA toolkit, for newer ones too.
"""

import copy
import dataclasses
import logging
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vis4mer.devices.device import CPU
from vis4mer.errors import ConfigError, DeviceError, ExportError
from vis4mer.text import first_line
from vis4mer_export.targets.axes import dynamic_shapes
from vis4mer_export.targets.base import Built, GraphSource, Target, open_written
from vis4mer_export.targets.device import DEVICE

logger = logging.getLogger(__name__)

# Weights are laid out as the matrix products of this machine's CPU read them, and products are fused with activations.
_CPU_SETTINGS = {"freezing": True}

# Within a package the exported program's own files lie below this folder; its writer creates everything else.
_CONTENT = "data/"
_SOURCE_SUFFIXES = (".cpp", ".cu", ".py")


class Pt2Target(Target):
    """AOTInductor packages; compiled code calls PyTorch's own operators, FFTs included."""

    name = "pt2"
    suffix = "pt2"
    lowerings = ("fft", "matmul_dft", "blocked_toeplitz")
    options = (DEVICE,)

    def check(self, settings: Mapping[str, Any]) -> None:
        """Checks that PyTorch can use the device; see `Target`."""
        import torch

        device = settings["device"] or CPU
        if device.index:
            rule = "format pt2 compiles for a kind of device, on the first one"
            raise ConfigError.of("device", str(device), rule, "use cuda, and let CUDA_VISIBLE_DEVICES choose the GPU")
        if device.kind == "cuda" and not torch.cuda.is_available():
            raise DeviceError.of("device", "cuda", "PyTorch finds no usable GPU", "use --device cpu")

    def build(self, source: GraphSource, path: Path, settings: Mapping[str, Any]) -> Built:
        """Compiles and writes a module; see `Target`."""
        from vis4mer.models.placement import to_device
        from vis4mer.runtime.backends.pt2 import quiet_inductor

        device = settings["device"] or CPU
        # `to_device` moves a module in place, and a failed comparison runs the caller's module on the CPU.
        module = to_device(copy.deepcopy(source.module), device.kind)
        example = source.example.to(device.kind)
        try:
            with quiet_inductor(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the compiler, which users cannot act on
                _compile(dataclasses.replace(source, module=module, example=example), path)
            _remove_origins(path)
        except Exception as error:  # the compiler's many stages share no narrower base
            rule = f"pt2 export failed: {first_line(error)}"
            raise ExportError(f"{path.name}: {rule}; AOTInductor needs a C++ compiler (apt install g++)") from None
        return Built(open_written(self, source, path, device))


def _compile(source: GraphSource, path: Path) -> None:
    import torch

    settings = _settings(source.example.device.type)
    shapes = dynamic_shapes(source.interface)
    with torch.no_grad():
        program = torch.export.export(source.module, (source.example,), dynamic_shapes=shapes)
        torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=settings)


def _settings(kind: str) -> dict[str, Any]:
    """Returns Inductor's settings for a kind of device."""
    import torch

    if kind == "cpu":
        return dict(_CPU_SETTINGS)
    if not hasattr(torch._inductor.config.aot_inductor, "emit_multi_arch_kernel"):  # before PyTorch 2.8
        return {}
    if not _has_nvcc():
        logger.warning("there is no nvcc, so the package runs only on GPUs with this one's compute capability")
        return {}
    # Keeps PTX beside the machine code. Drivers compile it for newer GPUs, whose machine code differs.
    return {"aot_inductor.emit_multi_arch_kernel": True}


def _has_nvcc() -> bool:
    """Returns whether Inductor finds CUDA's compiler, where it looks for it."""
    home = os.environ.get("CUDA_HOME")
    return shutil.which("nvcc") is not None or (home is not None and Path(home, "bin", "nvcc").is_file())


def _remove_origins(path: Path) -> None:
    """Removes the generated sources, which nothing runs, and the names of this machine's folders from all other files.

    The sources quote the compiler's command line. Machine code refers to its sources in messages and in debugging
    information, whose offsets must not move: a placeholder of the same length replaces a folder's name.
    """
    import torch
    from torch._inductor.runtime.cache_dir_utils import cache_dir
    from torch.export.pt2_archive._package import PT2ArchiveReader, PT2ArchiveWriter

    folders = [folder.encode() for folder in (cache_dir(), str(Path(torch.__file__).parent))]
    # Everything is in memory before the writer replaces the archive at the same path.
    with PT2ArchiveReader(str(path)) as reader:
        names = [name for name in reader.get_file_names() if name.startswith(_CONTENT)]
        files = {name: reader.read_bytes(name) for name in names if not name.endswith(_SOURCE_SUFFIXES)}
    with PT2ArchiveWriter(str(path)) as writer:
        for name, data in files.items():
            for folder in folders:
                # With the slash, folders whose names only begin with this name stay as they are.
                data = data.replace(folder + b"/", b"." * len(folder) + b"/")
            writer.write_bytes(name, data)
