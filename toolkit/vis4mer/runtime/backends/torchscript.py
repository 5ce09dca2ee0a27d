"""Runs TorchScript graphs with PyTorch."""

import io
import warnings

from vis4mer.devices.device import Device
from vis4mer.errors import BundleError
from vis4mer.runtime.backends.eager import EagerRunner, require_torch


def torchscript_runner(graph: bytes, name: str, device: Device) -> EagerRunner:
    """Loads a TorchScript program, whose digest must have been checked: it is a program.

    Args:
        graph: the file's bytes.
        name: of the graph, for errors.
        device: to run on.

    Raises:
        BundleError: the graph is not one that PyTorch can load.
        DeviceError: PyTorch cannot use the device.
        MissingDependencyError: PyTorch is not installed.
    """
    require_torch("TorchScript")
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated, which is the bundle's choice, not the user's
            module = torch.jit.load(io.BytesIO(graph), map_location=str(device)).eval()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleError(f"graph={name!r}: PyTorch {torch.__version__} cannot load it: {reason}") from None
    return EagerRunner(module, name, device)
