"""Colour matrices of video, and the correction of pictures that were converted to RGB with another one.

Video stores luma Y and the colour differences Cb and Cr. A *colour matrix* is defined by the weights of red and blue in
luma, and its inverse converts back to RGB. The range, limited or full, only scales Y and the differences.
"""

import numpy as np
from numpy.typing import NDArray

# Weights of red and blue in luma by FFmpeg's AVColorSpace. A video that declares none counts as BT.601, because PyAV's
# reader, whose frames are the reference, converts it as BT.601 too.
# Reference: ITU-T H.273, table 4.
_BT601 = (0.299, 0.114)
_LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),  # BT.709
    2: _BT601,  # undeclared
    5: _BT601,  # BT.470BG
    6: _BT601,  # SMPTE 170M
    9: (0.2627, 0.0593),  # BT.2020, non-constant luminance
}


def is_known(matrix: int) -> bool:
    """Returns whether `correction` covers a matrix, an AVColorSpace."""
    return matrix in _LUMA_WEIGHTS


def correction(matrix: int) -> NDArray[np.float32] | None:
    """Returns the correction of RGB pictures that a BT.601 conversion has made from video with another matrix.

    Undoing that conversion and applying the right one is linear, whatever the range, and leaves greys as they are. Only
    what the first conversion has rounded or clipped is lost.

    Args:
        matrix: AVColorSpace that `is_known`.

    Returns:
        Matrix from RGB to RGB, float32 `[3, 3]`; None where there is nothing to correct.
    """
    weights = _LUMA_WEIGHTS[matrix]
    if weights == _BT601:
        return None
    return (_to_rgb(*weights) @ np.linalg.inv(_to_rgb(*_BT601))).astype(np.float32)


def _to_rgb(red: float, blue: float) -> NDArray[np.float64]:
    """Returns the conversion of (Y, Cb, Cr) to RGB, float64 `[3, 3]`, for the weights of red and blue in luma."""
    green = 1 - red - blue
    # Cb is (B - Y) / (2 - 2 blue), and Cr is (R - Y) / (2 - 2 red); green follows from Y.
    from_cb, from_cr = 2 - 2 * blue, 2 - 2 * red
    return np.array(
        [
            [1, 0, from_cr],
            [1, -blue * from_cb / green, -red * from_cr / green],
            [1, from_cb, 0],
        ]
    )
