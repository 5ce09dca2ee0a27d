"""Runs TorchScript graphs with PyTorch."""

import io
import warnings

from vis4mer.devices.device import Device
from vis4mer.runtime.backends.base import Graph, failed_load
from vis4mer.runtime.backends.eager import EagerRunner, require_torch
from vis4mer.runtime.backends.tf32 import forbid_tf32_in_trace


class TorchScriptBackend:
    """Opens TorchScript graphs.

    A TorchScript file records neither names nor types nor sizes, so only running it shows whether it has the interface
    that the manifest states.
    """

    format = "torchscript"

    def open(self, graph: Graph, device: Device) -> EagerRunner:
        """Loads the program; see `Backend`."""
        require_torch("TorchScript", device)
        import torch

        try:
            with warnings.catch_warnings():
                # TorchScript is deprecated, but whoever runs a bundle did not choose its format.
                warnings.simplefilter("ignore")
                module = torch.jit.load(io.BytesIO(graph.data), map_location=str(device)).eval()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise failed_load(graph.name, device, f"PyTorch {torch.__version__}", str(error)) from None
        forbid_tf32_in_trace(module)
        return EagerRunner(module, graph.name, device)
