"""Runs .pt2 packages compiled by AOTInductor."""

import contextlib
import io
import json
import logging
import zipfile
from collections.abc import Iterator

from vis4mer.devices.device import Device
from vis4mer.errors import DeviceError
from vis4mer.runtime.backends.base import Graph, failed_load
from vis4mer.runtime.backends.eager import EagerRunner, require_torch

# Every part of a package has a record of its own, and all of them state the same device.
_METADATA_SUFFIX = "_metadata.json"


class Pt2Backend:
    """Opens .pt2 packages.

    A package records neither types nor sizes, so only running it shows whether it has the interface that the manifest
    states.
    """

    format = "pt2"

    def open(self, graph: Graph, device: Device) -> EagerRunner:
        """Loads the package; see `Backend`."""
        # Whether a package runs on the CPU or a GPU is fixed at compilation, and PyTorch cannot load it for the other.
        kind = _compiled_for(graph.data)
        if kind not in (None, device.kind):
            rule = f"{graph.name} was compiled for {kind}"
            remedy = f"run it with --device {kind}, or export it with --device {device.kind}"
            raise DeviceError.of("device", str(device), rule, remedy)
        require_torch("pt2", device)
        import torch

        try:
            with quiet_inductor():
                model = torch._inductor.aoti_load_package(
                    io.BytesIO(graph.data), device_index=device.index if device.kind == "cuda" else -1
                )
        except (RuntimeError, OSError, ValueError) as error:
            raise failed_load(graph.name, device, f"PyTorch {torch.__version__}", str(error)) from None
        return EagerRunner(model, graph.name, device)


def _compiled_for(package: bytes) -> str | None:
    """Returns the kind of device that a package was compiled for; None if it does not state one or is damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            records = [name for name in archive.namelist() if name.endswith(_METADATA_SUFFIX)]
            kind = json.loads(archive.read(records[0]))["AOTI_DEVICE_KEY"]
    except (zipfile.BadZipFile, LookupError, TypeError, ValueError):
        return None
    return kind if isinstance(kind, str) else None


@contextlib.contextmanager
def quiet_inductor() -> Iterator[None]:
    """Silences Inductor's warnings, such as those about operators without a C interface and about absent GPUs."""
    # Inductor imports cpp_extension, which warns at import of a CUDA toolkit without a GPU, whatever is compiled.
    loggers = [logging.getLogger(name) for name in ("torch._inductor", "torch.utils.cpp_extension")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
