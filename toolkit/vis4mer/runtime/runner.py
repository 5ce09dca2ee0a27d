"""What the classifier asks of a backend: execute one graph on one batch."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Runner(Protocol):
    """Executes one exported graph on one backend and device; made by the backend's own module.

    A runner of the encoder takes frames uint8 ``[N, H, W, 3]`` and returns tokens float32 ``[N, P, D]``; a runner of a
    head takes features float32 ``[B, L, d_input]`` and returns logits float32 ``[B, d_output]``.
    """

    def __call__(self, batch: NDArray[Any], /) -> NDArray[np.float32]:
        """Runs the graph.

        Raises:
            DeviceError: the device failed, most often for lack of memory.
        """
        ...
