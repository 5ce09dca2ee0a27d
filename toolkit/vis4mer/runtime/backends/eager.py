"""Runs PyTorch modules, and programs compiled from them."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from vis4mer.devices.arrays import Array, DeviceArray
from vis4mer.devices.device import Device
from vis4mer.errors import DeviceError
from vis4mer.packages import require
from vis4mer.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


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

    def __call__(self, batch: Array, /) -> Array:
        """Runs the module; see `Runner`."""
        import torch

        # PyTorch rejects arrays with negative strides. It reads a device array in place, through the CUDA array
        # interface.
        data = np.ascontiguousarray(batch) if isinstance(batch, np.ndarray) else batch
        try:
            with (
                torch.inference_mode(),
                torch.autocast(self._device.kind, torch.bfloat16, enabled=self._in_bf16),
            ):
                # Autocast may return bfloat16, which NumPy lacks, and a view may be strided, but every runner returns
                # contiguous float32.
                result = self._module(torch.as_tensor(data, device=str(self._device))).float().contiguous()
                if self._device.kind == "cpu":
                    return np.asarray(result.numpy())
                # Other libraries read the result on streams of their own, so it must be complete.
                torch.cuda.synchronize(self._device.index)
                return DeviceArray.from_interface(result, self._device)
        except RuntimeError as error:  # includes running out of memory, on any device
            rule = f"{self._name} failed on a batch of shape {batch.shape}: {one_line(str(error))}"
            raise DeviceError.of("device", str(self._device), rule, "try a smaller --batch-size") from None


def require_torch(kind: str) -> None:
    """Checks that PyTorch is installed before a bundle that needs it is opened.

    Args:
        kind: Kind of bundle, for the error.

    Raises:
        MissingDependencyError: PyTorch is not installed.
    """
    require("torch", purpose=f"to run a {kind} bundle", extra="torch", alternative="export to ONNX")
