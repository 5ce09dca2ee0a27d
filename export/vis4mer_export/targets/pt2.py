"""The pt2 target: torch.export compiled ahead of time by AOTInductor, TorchScript's successor.

A package holds machine code for one kind of device and the instruction set of the machine that compiled it.
"""

import contextlib
import copy
import dataclasses
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vis4mer.devices.device import Device
from vis4mer.errors import ConfigError, DeviceError, ExportError
from vis4mer.text import first_line
from vis4mer_export.targets.axes import dynamic_shapes
from vis4mer_export.targets.base import Built, GraphSource, Target, TargetOption, open_written

_KINDS = ("cpu", "cuda")

# Weights are laid out as the matrix products of this machine's CPU read them, and products are fused with activations.
_CPU_SETTINGS = {"freezing": True}

# Within a package the exported program's own files lie below this folder; its writer creates everything else.
_CONTENT = "data/"
_SOURCE_SUFFIXES = (".cpp", ".cu", ".py")


def _parse_kind(text: str) -> str:
    if text not in _KINDS:
        raise ConfigError.of("device", text, f"must be {' or '.join(_KINDS)}")
    return text


class Pt2Target(Target):
    """AOTInductor packages; compiled code calls PyTorch's own operators, FFTs included."""

    name = "pt2"
    suffix = "pt2"
    lowerings = ("fft", "matmul_dft", "blocked_toeplitz")
    options = (TargetOption("device", "cpu|cuda", "cpu", "Kind of device to compile for.", _parse_kind),)

    def check(self, settings: Mapping[str, Any]) -> None:
        """Checks that PyTorch can use the device; see `Target`."""
        import torch

        if settings["device"] == "cuda" and not torch.cuda.is_available():
            raise DeviceError.of("device", "cuda", "PyTorch finds no usable GPU", "use --device cpu")

    def build(self, source: GraphSource, path: Path, settings: Mapping[str, Any]) -> Built:
        """Compiles and writes a module; see `Target`."""
        from vis4mer.models.placement import to_device

        device = Device(settings["device"])
        # `to_device` moves a module in place, and a failed comparison runs the caller's module on the CPU.
        module = to_device(copy.deepcopy(source.module), str(device))
        example = source.example.to(str(device))
        try:
            with _quiet_compiler():
                _compile(dataclasses.replace(source, module=module, example=example), path)
            _remove_origins(path)
        except Exception as error:  # the compiler's many stages share no narrower base
            rule = f"pt2 export failed: {first_line(error)}"
            raise ExportError(f"{path.name}: {rule}; AOTInductor needs a C++ compiler (apt install g++)") from None
        return Built(open_written(self, source, path, device))


def _compile(source: GraphSource, path: Path) -> None:
    import torch

    settings = dict(_CPU_SETTINGS) if source.example.device.type == "cpu" else {}
    shapes = dynamic_shapes(source.interface)
    with torch.no_grad():
        program = torch.export.export(source.module, (source.example,), dynamic_shapes=shapes)
        torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=settings)


@contextlib.contextmanager
def _quiet_compiler() -> Iterator[None]:
    """Silences the compiler's warnings about operators without a C interface and about absent GPUs."""
    # The compiler imports cpp_extension, which warns at import of a CUDA toolkit without a GPU, whatever is compiled.
    loggers = [logging.getLogger(name) for name in ("torch._inductor", "torch.utils.cpp_extension")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


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
