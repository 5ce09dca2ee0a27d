"""Runs PyTorch modules, and programs made of them."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from vis4mer.devices.arrays import Array, DeviceArray
from vis4mer.devices.device import Device
from vis4mer.errors import DeviceError, MissingDependencyError
from vis4mer.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


class EagerRunner:
    """One module of a model, or a program made of it; safe to call from several threads.

    Args:
        module: in evaluation mode, on `device`.
        name: of the graph it stands for, for errors.
        device: that `module` is on.
        precision: ``bf16`` lets matrix products round to it, whatever the module's own; normalisations stay in float32.
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

        data = np.ascontiguousarray(batch) if isinstance(batch, np.ndarray) else batch
        try:
            with (
                torch.inference_mode(),
                torch.autocast(self._device.kind, torch.bfloat16, enabled=self._in_bf16),
            ):
                result = self._module(torch.as_tensor(data, device=str(self._device))).float().contiguous()
                if self._device.kind == "cpu":
                    return np.asarray(result.numpy())
                torch.cuda.synchronize(self._device.index)
                return DeviceArray.from_interface(result, self._device)
        except RuntimeError as error:  # out of memory, on a GPU or not, is one of these
            rule = f"{self._name} failed on a batch of shape {batch.shape}: {one_line(str(error))}"
            raise DeviceError(f"device={str(self._device)!r}: {rule}; try a smaller --batch-size") from None


def require_torch(kind: str) -> None:
    """Says what to install where a bundle of this kind meets a machine without PyTorch.

    Raises:
        MissingDependencyError: PyTorch is not installed.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        rule = f"is needed to run a {kind} bundle; pip install 'vis4mer[torch]', or export to ONNX"
        raise MissingDependencyError(f"package={error.name!r}: {rule}") from None
