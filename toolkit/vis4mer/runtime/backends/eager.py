"""Runs PyTorch modules, and programs compiled from them."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from vis4mer.devices.arrays import Array, DeviceArray
from vis4mer.devices.cuda import stream_of
from vis4mer.devices.device import Device
from vis4mer.devices.failures import failed_run
from vis4mer.packages import require
from vis4mer.runtime.backends.tf32 import ieee_convolutions

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

# Handle of the legacy default stream in CUDA's driver and runtime.
_DEFAULT_STREAM = 0


class EagerRunner:
    """One module of a model, or a program compiled from it; safe to call from several threads.

    Args:
        module: Module in evaluation mode, on `device`.
        name: Name of the graph, for errors.
        device: Device of the module.
        precision: ``bf16`` computes matrix products in bf16, whatever the module's own type; normalisations stay in
            float32.
    """

    def __init__(
        self,
        module: "Callable[[torch.Tensor], torch.Tensor]",
        name: str,
        device: Device,
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        self._module, self._name, self._device = module, name, device
        self._in_bf16 = precision == "bf16"
        if device.kind == "cuda":
            # Weights may still be on their way to the GPU, on the stream that PyTorch and its packages use by default.
            stream_of(device).activate()
            stream_of(device).wait_for(_DEFAULT_STREAM)

    def __call__(self, batch: Array, /) -> Array:
        """Runs the module; see `Runner`."""
        import torch

        try:
            with torch.inference_mode(), torch.autocast(self._device.kind, torch.bfloat16, enabled=self._in_bf16):
                if self._device.kind == "cpu":
                    return np.asarray(self._run(np.ascontiguousarray(batch)).numpy())
                return self._run_on_device(batch)
        except RuntimeError as error:  # includes running out of memory, on any device
            # TorchScript's interpreter puts its traceback before the error that matters.
            reason = str(error).rpartition("RuntimeError: ")[2]
            raise failed_run(self._name, self._device, tuple(batch.shape), reason) from None

    def _run_on_device(self, batch: Array) -> DeviceArray:
        """Queues the module on the device's stream, from device memory into device memory.

        Within the block, PyTorch queues its kernels on that stream and takes memory from a pool that belongs to it:
        memory is reused in the stream's order, like this package's own. So nothing has to be waited for, neither here
        nor when the batch or the result is dropped.
        """
        import torch

        with torch.cuda.stream(_stream(self._device)), ieee_convolutions():
            source = batch if isinstance(batch, DeviceArray) else DeviceArray.upload(batch, self._device)
            return DeviceArray.from_interface(self._run(source), self._device)

    def _run(self, batch: Array) -> "torch.Tensor":
        import torch

        # PyTorch reads both kinds of arrays in place, those of a device through the CUDA array interface. Autocast may
        # return bfloat16, which NumPy lacks, and a view may be strided, but every runner returns contiguous float32.
        return self._module(torch.as_tensor(batch, device=str(self._device))).float().contiguous()


def _stream(device: Device) -> "torch.cuda.Stream":
    """Returns the device's stream as PyTorch's type."""
    import torch

    return torch.cuda.ExternalStream(stream_of(device).handle, device=device.index)  # type: ignore[no-untyped-call]


def require_torch(kind: str, device: Device) -> None:
    """Checks that PyTorch is installed and can use a device, before a bundle that needs it is opened.

    Args:
        kind: Kind of bundle, for the error.
        device: Device that will run the bundle.

    Raises:
        DeviceError: PyTorch cannot use the device: it is built for the CPU alone, or needs a newer driver.
        MissingDependencyError: PyTorch is not installed.
    """
    require("torch", purpose=f"to run a {kind} bundle", extra="torch", alternative="export to ONNX")
    from vis4mer.models.placement import require_device

    require_device(str(device))
