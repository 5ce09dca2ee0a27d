"""Decoded pictures in a GPU's memory: resized, and watched for what all of them have in common.

The kernels are in ``pictures.cu``, and as PTX in ``pictures.ptx``, which the driver compiles for its GPU. So neither a
CUDA toolkit nor PyTorch is needed. All work is queued on the device's stream; nothing here waits, except
`Extremes.read`.
"""

from collections.abc import Sequence
from ctypes import Structure, c_float, c_int, c_longlong, c_void_p
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vis4mer.config import Preprocessing
from vis4mer.devices.arrays import Array, DeviceArray
from vis4mer.devices.cuda import Kernel, stream_of
from vis4mer.devices.device import Device
from vis4mer.video.resize import DisplayMatrix, Taps, taps, upright

_TILE = (32, 8, 1)  # kColumns and kRows of the kernel
_THREADS = 256
_BYTE = np.dtype(np.uint8)


class PicturesParameter(Structure):
    """``Pictures`` of the kernel."""

    _fields_ = (
        ("data", c_void_p),
        ("picture_stride", c_longlong),
        ("row_stride", c_longlong),
        ("column_stride", c_longlong),
    )


class MatrixParameter(Structure):
    """``ColourMatrix`` of the kernel."""

    _fields_ = (("rows", c_float * 9), ("is_identity", c_int))


class TapsParameter(Structure):
    """``Taps`` of the kernel."""

    _fields_ = (("first", c_void_p), ("weights", c_void_p), ("count", c_int))


class PictureResizer:
    """Resizes pictures as `vis4mer.video.resize` does on the CPU: equal within one level.

    Args:
        device: GPU that holds the pictures.
        preprocessing: Size, resize mode and interpolation of the images.
        height: Height of the stored pictures.
        width: Width of the stored pictures.
        display: Transformation that brings them upright.
        colours: Matrix to apply to each pixel before, float32 `[3, 3]`; the result is clipped to 0 to 255.

    Attributes:
        stored: Shape of a stored picture.

    Raises:
        DeviceError: The driver cannot load the kernel, or the device has too little memory left.
    """

    def __init__(
        self,
        device: Device,
        preprocessing: Preprocessing,
        *,
        height: int,
        width: int,
        display: DisplayMatrix,
        colours: NDArray[np.float32] | None,
    ) -> None:
        self.stored = (height, width, 3)
        self._device = device
        self._size = (preprocessing.height, preprocessing.width)
        self._kernel = _load(device, "resize_pictures")
        self._layout = _layout(height, width, display)
        rows, columns = taps(preprocessing, self._layout.height, self._layout.width)
        # A warp of the kernel reads the weights of one row, or of neighbouring columns.
        self._rows, self._columns = _uploaded(rows, rows.weights, device), _uploaded(columns, columns.weights.T, device)
        matrix = np.eye(3, dtype=np.float32) if colours is None else colours
        self._colours = MatrixParameter((c_float * 9)(*matrix.ravel().tolist()), colours is None)

    def __call__(self, sequences: Sequence[DeviceArray]) -> DeviceArray:
        """Resizes pictures.

        Args:
            sequences: Pictures, uint8 `[n, H, W, 3]` each. They may be dropped after the call, provided that their
                memory is reused in the order of the device's stream.

        Returns:
            Images of all sequences, uint8 `[sum of n, height, width, 3]`.

        Raises:
            DeviceError: The device has too little memory left, or failed.
        """
        count = sum(len(sequence) for sequence in sequences)
        images = DeviceArray.empty((count, *self._size, 3), _BYTE, self._device)  # activates the stream's GPU
        done = 0
        for sequence in sequences:
            self._launch(sequence, images[done:])
            done += len(sequence)
        return images

    def _launch(self, pictures: DeviceArray, images: DeviceArray) -> None:
        if pictures.shape[1:] != self.stored or pictures.dtype != _BYTE:
            expected = ", ".join(map(str, self.stored))
            raise ValueError(f"pictures={pictures.dtype}{pictures.shape}: must be uint8 [n, {expected}]")
        if len(pictures) == 0:
            return
        layout, (height, width) = self._layout, self._size
        picture_bytes = pictures.nbytes // len(pictures)
        source = PicturesParameter(
            pictures.address + layout.offset, picture_bytes, layout.row_stride, layout.column_stride
        )
        grid = (-(-width // _TILE[0]), -(-height // _TILE[1]), len(pictures))
        stream_of(self._device).launch(
            self._kernel,
            grid,
            _TILE,
            source,
            self._colours,
            self._columns.parameter,
            self._rows.parameter,
            c_void_p(images.address),
            c_int(width),
            c_int(height),
        )


class Levels(NamedTuple):
    """What the images of a movie have in common.

    Attributes:
        brightest: Largest level of all, 0 to 255.
        widest: Largest difference between the largest and the smallest level of one value of an image.
    """

    brightest: int
    widest: int


class Extremes:
    """The smallest and largest level of each value of an image, over the images of a movie on a GPU.

    Args:
        device: GPU that holds the images.
        shape: Shape of an image.

    Raises:
        DeviceError: The driver cannot load the kernel, or the device has too little memory left.
    """

    def __init__(self, device: Device, shape: tuple[int, ...]) -> None:
        self._device = device
        self._kernel = _load(device, "track_extremes")
        stream = stream_of(device)
        self._lowest, self._highest = (DeviceArray.empty(shape, _BYTE, device) for _ in range(2))
        self._results = DeviceArray.empty((2,), np.dtype(np.int32), device)
        stream.fill(self._lowest.address, 255, self._lowest.nbytes)
        stream.fill(self._highest.address, 0, self._highest.nbytes)
        stream.fill(self._results.address, 0, self._results.nbytes)

    def add(self, images: Array) -> None:
        """Queues the comparison with the next images, uint8 `[n, *shape]`.

        Raises:
            DeviceError: The device has too little memory left, or failed.
        """
        if not isinstance(images, DeviceArray):
            # A movie that the GPU stops decoding goes on with images on the host.
            images = DeviceArray.upload(images, self._device)
        values = self._lowest.nbytes
        stream = stream_of(self._device)
        stream.activate()
        stream.launch(
            self._kernel,
            (-(-values // _THREADS), 1, 1),
            (_THREADS, 1, 1),
            c_void_p(images.address),
            c_int(len(images)),
            c_int(values),
            c_void_p(self._lowest.address),
            c_void_p(self._highest.address),
            c_void_p(self._results.address),
            c_void_p(self._results.address + self._results.dtype.itemsize),
        )

    def read(self) -> Levels:
        """Waits for the stream, and returns the result.

        Raises:
            DeviceError: The device failed.
        """
        brightest, widest = self._results.numpy()
        return Levels(int(brightest), int(widest))


class _Layout(NamedTuple):
    """The place of an upright picture's pixels in the stored picture.

    Attributes:
        offset: Bytes from the stored picture's start to the upright picture's upper left pixel.
        row_stride: Bytes from a pixel to the one below.
        column_stride: Bytes from a pixel to the one on its right.
        height: Height of the upright picture.
        width: Width of the upright picture.
    """

    offset: int
    row_stride: int
    column_stride: int
    height: int
    width: int


def _layout(height: int, width: int, display: DisplayMatrix) -> _Layout:
    # NumPy's view of a picture that is never touched has the strides that a rotation amounts to.
    stored = np.empty((height, width, 3), np.uint8)
    shown = upright(np.moveaxis(stored, 2, 0), display)
    offset = shown.__array_interface__["data"][0] - stored.__array_interface__["data"][0]
    _, row_stride, column_stride = shown.strides
    return _Layout(offset, row_stride, column_stride, *shown.shape[1:])


class _DeviceTaps(NamedTuple):
    """Weights on the device.

    Attributes:
        parameter: Their addresses, for the kernel.
        memory: Arrays that keep them allocated.
    """

    parameter: TapsParameter
    memory: tuple[DeviceArray, DeviceArray]


def _uploaded(axis: Taps, weights: NDArray[np.float32], device: Device) -> _DeviceTaps:
    memory = DeviceArray.upload(axis.first, device), DeviceArray.upload(weights, device)
    parameter = TapsParameter(memory[0].address, memory[1].address, axis.weights.shape[1])
    return _DeviceTaps(parameter, memory)


def _load(device: Device, name: str) -> Kernel:
    stream = stream_of(device)
    stream.activate()
    return stream.load_kernel(files("vis4mer.video").joinpath("pictures.ptx").read_bytes(), name)
