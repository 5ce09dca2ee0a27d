"""Runs .pt2 packages compiled by AOTInductor."""

import io

from vis4mer.devices.device import Device
from vis4mer.errors import BundleError, DeviceError
from vis4mer.runtime.backends.eager import EagerRunner, require_torch


def pt2_runner(graph: bytes, name: str, device: Device) -> EagerRunner:
    """Loads a package, whose digest must have been checked: it is machine code.

    Args:
        graph: the file's bytes.
        name: of the graph, for errors.
        device: to run on; must be of the kind the package was compiled for.

    Raises:
        BundleError: the graph is not one that this PyTorch can load.
        DeviceError: the package was compiled for another kind of device.
        MissingDependencyError: PyTorch is not installed.
    """
    require_torch("pt2")
    import torch

    try:
        model = torch._inductor.aoti_load_package(
            io.BytesIO(graph), device_index=device.index if device.kind == "cuda" else -1
        )
    except (RuntimeError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleError(f"graph={name!r}: PyTorch {torch.__version__} cannot load it: {reason}") from None
    compiled_for = model.get_metadata().get("AOTI_DEVICE_KEY", "cpu")
    if compiled_for != device.kind:
        rule = f"{name} was compiled for {compiled_for}; export it with --device {device.kind}, or run it there"
        raise DeviceError(f"device={str(device)!r}: {rule}")
    return EagerRunner(model, name, device)
