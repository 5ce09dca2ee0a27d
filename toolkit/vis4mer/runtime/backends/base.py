"""What the classifier asks of a backend: execute one graph on one batch."""

from typing import Protocol

from vis4mer.devices.arrays import Array


class Runner(Protocol):
    """Executes one exported graph on one backend and device; made by the backend's own module.

    A runner of the encoder takes frames uint8 ``[N, H, W, 3]`` and returns tokens float32 ``[N, P, D]``; a runner of a
    head takes features float32 ``[B, L, d_input]`` and returns logits float32 ``[B, d_output]``. Batches may lie on the
    host or on the runner's device; what it returns lies on its device.
    """

    def __call__(self, batch: Array, /) -> Array:
        """Runs the graph.

        Raises:
            DeviceError: the device failed, most often for lack of memory.
        """
        ...
