"""Round values and times for the axes of a timeline."""

import math

# The axis of a regression head spans at least these, so that noise looks like noise.
_LEAST_SPAN = 0.02
_LEAST_RELATIVE_SPAN = 0.1  # of the largest magnitude

# Steps that look round as minutes and seconds, or hours and minutes, which decimal steps such as 20 or 50 do not.
_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200)  # seconds
_DAY = 86400  # seconds


def value_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Returns two to five round values, with their text, that enclose `low` and `high`.

    Their distance is the smallest of 1, 2, 5 and 10 times a power of ten that is at least a third of the span, so that
    rounding both ends outwards adds at most two steps to three. Values that differ less than noise does get a wider
    span around them.
    """
    span = max(high - low, _LEAST_SPAN, _LEAST_RELATIVE_SPAN * max(abs(low), abs(high)))
    low, high = (low + high - span) / 2, (low + high + span) / 2
    magnitude = 10.0 ** math.floor(math.log10(span / 2))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= span / 3)
    return [(i * step, number(i * step)) for i in range(math.floor(low / step), math.ceil(high / step) + 1)]


def number(value: float) -> str:
    """Formats a value of a regression head: with four significant digits, or as a whole number from 10,000 on."""
    # Four digits of 9,999.5 and more are 10,000, which the format g writes as 1e+04.
    return f"{value:,.0f}" if 9999.5 <= abs(value) < 1e9 else f"{value:.4g}"


def time_ticks(duration: float, most: int) -> list[float]:
    """Returns the times, in seconds, that the axis of a movie names: the finest round steps that leave room.

    Args:
        duration: Time that the axis spans, in seconds.
        most: Number of steps that there is room for, at least 1.
    """
    days = math.ceil(duration / (_DAY * most))
    step = next((step for step in _TIME_STEPS if duration / step <= most), days * _DAY)
    return [float(i * step) for i in range(int(duration / step) + 1)]
