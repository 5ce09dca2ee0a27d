"""The precision a model computes in: the requested one, or bfloat16 where it is faster and close enough to float32."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vis4mer.config import Preprocessing
from vis4mer.devices.arrays import on_host
from vis4mer.devices.device import Device, bf16_units
from vis4mer.errors import ConfigError
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.bundle import Bundle
from vis4mer.runtime.manifest import Precision
from vis4mer.runtime.parity import PARITY_TOLERANCES

RequestedPrecision = Literal["auto", "fp32", "bf16"]


class ChosenPrecision(NamedTuple):
    """A precision and the reason for it."""

    precision: Precision
    reason: str


def bundle_precision(bundle: Bundle, requested: RequestedPrecision) -> ChosenPrecision:
    """Returns the precision of a bundle's graphs, which its export has fixed and verified.

    Raises:
        ConfigError: Another precision was requested.
    """
    if requested == "auto":
        return ChosenPrecision(bundle.precision, "the bundle was exported in it")
    if requested != bundle.precision:
        rule = f"the bundle {str(bundle.path)!r} computes in {bundle.precision}"
        raise ConfigError.of("precision", requested, rule, f"use auto, or export it with --precision {requested}")
    return ChosenPrecision(bundle.precision, "requested")


def encoder_precision(
    in_fp32: Runner, in_bf16: Runner, requested: RequestedPrecision, device: Device, size: Preprocessing
) -> ChosenPrecision:
    """Chooses the precision of a checkpoint's frame encoder, which takes nearly all of the time.

    ``auto`` takes bf16 where the device is faster with it and the encoder's tokens stay as close to those in fp32 as an
    export's must. Two fixed frames, one of noise and a smooth one, decide, so a model has the same precision for
    all movies.

    Args:
        in_fp32: Runner of the encoder in float32.
        in_bf16: Runner of the same encoder in bfloat16.
        requested: Precision that the user requests.
        device: Device of both runners.
        size: Preprocessing, which determines the size of the frames.

    Raises:
        DeviceError: The device failed.
    """
    if requested != "auto":
        return ChosenPrecision(requested, "requested")
    units = bf16_units(device)
    if units is None:
        return ChosenPrecision("fp32", f"{device} is not faster in bf16")
    # Only now does the encoder run: without bf16 units the question needs no measurement.
    frames, tolerance = _frames(size.height, size.width), PARITY_TOLERANCES["bf16"]
    expected, actual = (on_host(run(frames)).astype(np.float64) for run in (in_fp32, in_bf16))
    # Each frame has an error of its own, so that one accurate frame cannot offset an inaccurate one. np.max returns NaN
    # if any error is NaN, which Python's max() does not guarantee.
    errors = [np.linalg.norm(a - e) / np.linalg.norm(e) for a, e in zip(actual, expected, strict=True)]
    error = float(np.max(errors))
    if not error <= tolerance:  # also true for NaN
        reason = f"in bf16 the encoder's tokens are off by {error:.1e}, more than {tolerance:.0e}"
        return ChosenPrecision("fp32", reason)
    return ChosenPrecision("bf16", f"{units} is faster in it, and the encoder's tokens are off by only {error:.1e}")


def _frames(height: int, width: int) -> NDArray[np.uint8]:
    """Returns two frames, uint8 ``[2, H, W, 3]``: noise, and a gradient of colours."""
    # The two frames are opposite extremes: one has as much detail as possible, the other hardly any.
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    rows, columns = np.linspace(0, 255, height)[:, None], np.linspace(0, 255, width)[None]
    colours = np.broadcast_arrays(rows, columns, (rows + columns) / 2)
    return np.stack([noise, np.stack(colours, axis=-1).astype(np.uint8)])
