"""Runs .pt2 packages compiled by AOTInductor."""

import contextlib
import io
import logging
from collections.abc import Iterator

from vis4mer.devices.device import Device
from vis4mer.errors import BundleError, DeviceError
from vis4mer.runtime.backends.base import Graph
from vis4mer.runtime.backends.eager import EagerRunner, require_torch
from vis4mer.text import first_line


class Pt2Backend:
    """Opens .pt2 packages.

    A package records neither types nor sizes, so only running it shows whether it has the interface that the manifest
    states.
    """

    format = "pt2"

    def open(self, graph: Graph, device: Device) -> EagerRunner:
        """Loads the package; see `Backend`."""
        require_torch("pt2")
        import torch

        try:
            with quiet_inductor():
                model = torch._inductor.aoti_load_package(
                    io.BytesIO(graph.data), device_index=device.index if device.kind == "cuda" else -1
                )
        except (RuntimeError, OSError, ValueError) as error:
            rule = f"PyTorch {torch.__version__} cannot load it: {first_line(error)}"
            raise BundleError.of("graph", graph.name, rule) from None
        # Whether a package runs on the CPU or a GPU is fixed at compilation, and `device_index` only chooses among
        # GPUs. So its metadata has to be compared with the requested device.
        compiled_for = model.get_metadata().get("AOTI_DEVICE_KEY", "cpu")
        if compiled_for != device.kind:
            rule = f"{graph.name} was compiled for {compiled_for}"
            raise DeviceError.of("device", str(device), rule, f"export it with --device {device.kind}, or run it there")
        return EagerRunner(model, graph.name, device)


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
