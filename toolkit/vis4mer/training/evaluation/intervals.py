"""95 % confidence intervals of figures that are measured on a sample of movies.

They assume that the movies were drawn independently. Windows of one movie are not independent, so their figures have no
interval.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

_NORMAL = NormalDist()
_Z = _NORMAL.inv_cdf(0.975)
_N_RESAMPLES = 10_000
_SEED = 0
_FEWEST_VALUES = 10


class Interval(NamedTuple):
    """A confidence interval at the level of 95 %.

    Attributes:
        low: Lower limit.
        high: Upper limit.
    """

    low: float
    high: float


def share_interval(n_hits: int, total: int) -> Interval | None:
    """Returns Wilson's score interval of a share in [0, 1]; None without trials.

    It stays in [0, 1], and unlike the normal approximation it is accurate for few trials and for shares near 0 and 1.

    Args:
        n_hits: Number of successes.
        total: Number of trials.

    Reference:
        Wilson, Probable Inference, the Law of Succession, and Statistical Inference (JASA 22, 1927); Brown, Cai and
        DasGupta, Interval Estimation for a Binomial Proportion (Statistical Science 16, 2001).
    """
    if total == 0:
        return None
    share = n_hits / total
    scale = 1 + _Z**2 / total
    centre = (share + _Z**2 / (2 * total)) / scale
    half_width = _Z / scale * math.sqrt(share * (1 - share) / total + _Z**2 / (4 * total**2))
    # The limits of 0 and of all successes are exactly 0 and 1, which rounding misses.
    low = 0.0 if n_hits == 0 else centre - half_width
    high = 1.0 if n_hits == total else centre + half_width
    return Interval(low, high)


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Returns the BCa bootstrap interval of a mean; the same values always give the same interval.

    Squared errors are skewed, and the bootstrap corrects for that: bias-corrected and accelerated, 10,000 resamples.

    Args:
        values: Values of a sample.

    Returns:
        The interval; None for fewer than ten values, whose resamples are too few, and for equal or infinite ones.

    Reference:
        Efron, Better Bootstrap Confidence Intervals (JASA 82, 1987), sections 2 and 6.
    """
    sample = np.asarray(values, np.float64)
    n_values = len(sample)
    if n_values < _FEWEST_VALUES or not np.isfinite(sample).all() or np.ptp(sample) == 0:
        return None
    generator = np.random.default_rng(_SEED)
    resampled = np.array([sample[generator.integers(0, n_values, n_values)].mean() for _ in range(_N_RESAMPLES)])
    mean = sample.mean()
    # Bias: how far the median of the resampled means lies from the mean, in standard normal units.
    below = (np.count_nonzero(resampled < mean) + np.count_nonzero(resampled <= mean)) / (2 * _N_RESAMPLES)
    bias = _NORMAL.inv_cdf(below)
    # Acceleration: the skewness of the jackknife. Leaving one value out shifts the mean in proportion to its deviation.
    deviations = sample - mean
    acceleration = (deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5)

    def limit(z: float) -> float:
        shifted = bias + z
        return float(np.quantile(resampled, _NORMAL.cdf(bias + shifted / (1 - acceleration * shifted))))

    return Interval(limit(-_Z), limit(_Z))
