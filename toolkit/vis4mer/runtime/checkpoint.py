"""Runs a checkpoint's modules as they are, with PyTorch."""

from pathlib import Path
from typing import TYPE_CHECKING

from vis4mer.errors import DeviceError, MissingDependencyError
from vis4mer.runtime.bundle import ENCODER
from vis4mer.runtime.device import Device
from vis4mer.runtime.eager import EagerRunner
from vis4mer.runtime.precision import AskedPrecision, Chosen, encoder_precision

if TYPE_CHECKING:
    from vis4mer.models.vis4mer import Vis4mer


def load_model(path: Path) -> "Vis4mer":
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


def eager_runners(
    model: "Vis4mer", device: Device, asked: AskedPrecision = "auto"
) -> tuple[dict[str, EagerRunner], Chosen]:
    """Moves `model` to `device` and makes a runner for its encoder and one for each head.

    Args:
        model: in evaluation mode, with an encoder of frames.
        device: to run on.
        asked: precision of the encoder; heads compute in fp32.

    Returns:
        The runners by graph, and the encoder's precision.

    Raises:
        DeviceError: PyTorch cannot use the device.
    """
    try:
        model.to(str(device))
    except (RuntimeError, AssertionError) as error:  # a CPU-only build asserts
        rule = f"PyTorch cannot use it: {' '.join(str(error).split())[:300]}; use --device cpu or auto"
        raise DeviceError(f"device={str(device)!r}: {rule}") from None
    assert model.encoder is not None, "load() refuses models without encoder"
    in_fp32, in_bf16 = (EagerRunner(model.encoder, ENCODER, device, precision) for precision in ("fp32", "bf16"))
    chosen = encoder_precision(in_fp32, in_bf16, asked, device, model.config.preprocessing)
    heads = {name: EagerRunner(head, name, device) for name, head in model.heads.items()}
    return {ENCODER: in_bf16 if chosen.precision == "bf16" else in_fp32, **heads}, chosen
