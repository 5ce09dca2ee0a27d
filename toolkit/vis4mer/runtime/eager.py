"""Runs a checkpoint's modules as they are, with PyTorch."""

from typing import TYPE_CHECKING

import numpy as np

from vis4mer.errors import DeviceError, MissingDependencyError
from vis4mer.runtime.arrays import Array, DeviceArray
from vis4mer.runtime.device import Device
from vis4mer.runtime.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from vis4mer.models.vis4mer import Vis4mer


class EagerRunner:
    """One module of a model, or a program made of it; safe to call from several threads.

    Args:
        module: in evaluation mode, on `device`.
        name: of the graph it stands for, for errors.
        device: that `module` is on.
    """

    def __init__(self, module: "Callable[[torch.Tensor], torch.Tensor]", name: str, device: Device) -> None:
        self._module, self._name, self._device = module, name, device

    def __call__(self, batch: Array, /) -> Array:
        """Runs the module; see `Runner`."""
        import torch

        data = np.ascontiguousarray(batch) if isinstance(batch, np.ndarray) else batch
        try:
            with torch.inference_mode():
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


def load_model(path: "Path") -> "Vis4mer":
    """Loads a checkpoint on the CPU, in evaluation mode.

    Raises:
        CheckpointError: it cannot be read.
        MissingDependencyError: PyTorch is not installed.
    """
    try:
        from vis4mer.models.checkpoint import load_checkpoint
    except ImportError as error:
        rule = "is needed to load a checkpoint; pip install 'vis4mer[torch]', or give a bundle exported to ONNX"
        raise MissingDependencyError(f"package={error.name!r}: {rule}") from None
    return load_checkpoint(path)


def eager_runners(model: "Vis4mer", device: Device) -> dict[str, EagerRunner]:
    """Moves `model` to `device` and returns a runner for its encoder and one for each head.

    Raises:
        DeviceError: PyTorch cannot use the device.
    """
    try:
        model.to(str(device))
    except (RuntimeError, AssertionError) as error:  # a CPU-only build asserts
        rule = f"PyTorch cannot use it: {' '.join(str(error).split())[:300]}; use --device cpu or auto"
        raise DeviceError(f"device={str(device)!r}: {rule}") from None
    modules = {"encoder": model.encoder, **model.heads}
    return {name: EagerRunner(module, name, device) for name, module in modules.items() if module is not None}
