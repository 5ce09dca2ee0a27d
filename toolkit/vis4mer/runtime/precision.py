"""In which precision a model computes: as asked, or bfloat16 where that is faster and near enough to float32."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vis4mer.config import Preprocessing
from vis4mer.devices.arrays import on_host
from vis4mer.devices.device import Device, bf16_units
from vis4mer.errors import ConfigError
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.bundle import Bundle, Precision
from vis4mer.runtime.parity import TOLERANCES

RequestedPrecision = Literal["auto", "fp32", "bf16"]


class Chosen(NamedTuple):
    """A precision, and why that one."""

    precision: Precision
    reason: str


def bundle_precision(bundle: Bundle, asked: RequestedPrecision) -> Chosen:
    """The precision of a bundle's graphs, which its export has fixed and proved.

    Raises:
        ConfigError: another one was asked for.
    """
    if asked not in ("auto", bundle.precision):
        rule = f"the bundle {str(bundle.path)!r} computes in {bundle.precision}"
        raise ConfigError(f"precision={asked!r}: {rule}; use auto, or export it with --precision {asked}")
    return Chosen(bundle.precision, "the bundle was exported in it" if asked == "auto" else "asked for")


def encoder_precision(
    in_fp32: Runner, in_bf16: Runner, asked: RequestedPrecision, device: Device, size: Preprocessing
) -> Chosen:
    """The precision for a checkpoint's frame encoder, with which nearly all of the time is spent.

    ``auto`` takes bf16 where the device is faster with it and the encoder's tokens stay as near to those in fp32 as an
    export's must. That is measured on two frames, one of noise and one that is smooth, so that a model has the same
    precision for all movies.

    Args:
        in_fp32: runs the encoder in float32.
        in_bf16: runs the same encoder in bfloat16.
        asked: by the user.
        device: that both run on.
        size: of the frames.

    Raises:
        DeviceError: the device failed.
    """
    if asked != "auto":
        return Chosen(asked, "asked for")
    units = bf16_units(device)
    if units is None:
        return Chosen("fp32", f"{device} is not faster in bf16")
    frames, tolerance = _frames(size.height, size.width), TOLERANCES["bf16"]
    expected, actual = (on_host(run(frames)).astype(np.float64) for run in (in_fp32, in_bf16))
    errors = [np.linalg.norm(a - e) / np.linalg.norm(e) for a, e in zip(actual, expected, strict=True)]
    error = float(np.max(errors))
    if not error <= tolerance:  # NaN included
        return Chosen("fp32", f"in bf16 the encoder's tokens are off by {error:.1e}, more than {tolerance:.0e}")
    return Chosen("bf16", f"{units} is faster in it, and the encoder's tokens are off by {error:.1e} only")


def _frames(height: int, width: int) -> NDArray[np.uint8]:
    """Two frames uint8 [2, H, W, 3]: noise, and colours that run into each other."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    rows, columns = np.linspace(0, 255, height)[:, None], np.linspace(0, 255, width)[None]
    colours = np.broadcast_arrays(rows, columns, (rows + columns) / 2)
    return np.stack([noise, np.stack(colours, axis=-1).astype(np.uint8)])
