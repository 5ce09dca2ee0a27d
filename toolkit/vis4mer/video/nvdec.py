"""Capabilities of a GPU's video engine (NVDEC), as the NVIDIA driver reports them.

Which codecs and sizes an engine decodes depends on its generation: AV1, for example, is absent from Turing, the A100
and Hopper. DALI finds out when it decodes the first clip, so the driver is queried before.
"""

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_int, c_ubyte, c_uint, c_ushort, c_void_p
from typing import NamedTuple

from vis4mer.devices.cuda import load_driver
from vis4mer.devices.device import Device

_LIBRARY = "libnvcuvid.so.1"
_MISSING = (
    f"the driver's video library {_LIBRARY} is missing; "
    "a container has it with NVIDIA_DRIVER_CAPABILITIES=compute,video,utility"
)

# FFmpeg's names of codecs, cudaVideoCodec, and the size of the blocks that their coded pictures consist of.
_CODECS = {"mpeg4": (2, 16), "h264": (4, 16), "hevc": (8, 8), "vp8": (9, 16), "vp9": (10, 8), "av1": (11, 8)}
_CHROMA_420 = 1  # cudaVideoChromaFormat_420
_MACROBLOCK_PIXELS = 256


class DecoderCaps(ctypes.Structure):
    """``CUVIDDECODECAPS`` of cuviddec.h: a request, which the driver completes."""

    _fields_ = (
        ("eCodecType", c_int),
        ("eChromaFormat", c_int),
        ("nBitDepthMinus8", c_uint),
        ("reserved1", c_uint * 3),
        ("bIsSupported", c_ubyte),
        ("nNumNVDECs", c_ubyte),
        ("nOutputFormatMask", c_ushort),
        ("nMaxWidth", c_uint),
        ("nMaxHeight", c_uint),
        ("nMaxMBCount", c_uint),
        ("nMinWidth", c_ushort),
        ("nMinHeight", c_ushort),
        ("bIsHistogramSupported", c_ubyte),
        ("nCounterBitDepth", c_ubyte),
        ("nMaxHistogramBins", c_ushort),
        ("reserved3", c_uint * 10),
    )


class Capabilities(NamedTuple):
    """What an engine decodes of one codec.

    Attributes:
        problem: Why it decodes nothing; empty if it does.
        min_width: Smallest width of coded pictures, in pixels.
        min_height: Smallest height.
        max_width: Largest width.
        max_height: Largest height.
        max_macroblocks: Largest number of macroblocks, of 16 x 16 pixels, in a picture.
    """

    problem: str = ""
    min_width: int = 0
    min_height: int = 0
    max_width: int = 0
    max_height: int = 0
    max_macroblocks: int = 0


def obstacle(device: Device, codec: str, width: int, height: int) -> str | None:
    """Returns why a GPU does not decode pictures of 8 bits and 4:2:0 chroma; None if it does.

    Args:
        device: GPU that `probe_driver` has found.
        codec: FFmpeg's name of the codec.
        width: Width of the stored pictures, in pixels.
        height: Height of the stored pictures, in pixels.
    """
    if codec not in _CODECS:
        return f"{device} does not decode {codec}"
    can = capabilities(device, codec)
    if can.problem:
        return can.problem
    # Codecs store whole blocks, beyond the picture's edge if need be.
    block = _CODECS[codec][1]
    width, height = -(-width // block) * block, -(-height // block) * block
    size = f"{codec} pictures of {width} x {height} pixels"
    if width < can.min_width or height < can.min_height:
        return f"{device} does not decode {size}: at least {can.min_width} x {can.min_height}"
    if width > can.max_width or height > can.max_height:
        return f"{device} does not decode {size}: at most {can.max_width} x {can.max_height}"
    if width * height // _MACROBLOCK_PIXELS > can.max_macroblocks:
        return f"{device} does not decode {size}: at most {can.max_macroblocks * _MACROBLOCK_PIXELS:,} in all"
    return None


@functools.cache
def capabilities(device: Device, codec: str) -> Capabilities:
    """Queries the driver; see `obstacle` for the arguments."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return Capabilities(_MISSING)
    caps = DecoderCaps(eCodecType=_CODECS[codec][0], eChromaFormat=_CHROMA_420, nBitDepthMinus8=0)
    with _current(device) as status:
        # Passed by address, the structure needs no declaration of the argument's type.
        if status := status or library.cuvidGetDecoderCaps(byref(caps)):
            return Capabilities(f"the driver's video library does not start on {device} (CUDA error {status})")
    if not caps.bIsSupported:
        return Capabilities(f"{device} does not decode {codec}")
    return Capabilities(
        min_width=caps.nMinWidth,
        min_height=caps.nMinHeight,
        max_width=caps.nMaxWidth,
        max_height=caps.nMaxHeight,
        max_macroblocks=caps.nMaxMBCount,
    )


@contextmanager
def _current(device: Device) -> Iterator[int]:
    """Makes a GPU current for the calling thread, and afterwards the previous one again.

    Yields:
        The driver's status: 0, or the number of the error.
    """
    driver, context = load_driver(), c_void_p()
    # The primary context is that of all libraries; it is never released, see `vis4mer.devices.cuda`.
    status = (
        driver.cuInit(0)
        or driver.cuDevicePrimaryCtxRetain(byref(context), device.index)
        or driver.cuCtxPushCurrent_v2(context)
    )
    try:
        yield status
    finally:
        if not status:
            driver.cuCtxPopCurrent_v2(byref(c_void_p()))
