"""The text around a timeline's plots."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from vis4mer.errors import BundleError
from vis4mer.runtime.loading import sample_bundle
from vis4mer.runtime.model_path import is_bundle
from vis4mer.runtime.prediction import Prediction
from vis4mer.text import clock, count, printable


def subtitle(prediction: Prediction, duration: float) -> str:
    """Returns the line under the title: the movie's length, the frames seen, and damage.

    Args:
        prediction: Prediction for the movie.
        duration: Time that the timeline spans, in seconds.
    """
    facts = f"{clock(duration)} long, {count(prediction.frames, 'frame')} seen"
    if prediction.damage:
        facts += f"; damaged: {'; '.join(prediction.damage.notes)}"
    return facts


def captions(prediction: Prediction, group_size: int) -> Iterator[str]:
    """Yields the lines under the plots: how to read the curves, and where they come from.

    Args:
        prediction: Prediction for the movie.
        group_size: Number of windows that one point of a curve stands for.
    """
    windows = prediction.windows
    for note in prediction.notes:
        yield f"{note[:1].upper()}{note[1:]}."
    if prediction.padded:
        yield "The movie is shorter than the model's window; the rest is padded with zeros."
    elif len(windows) == 1:
        yield "The whole movie is one window, so there is one value for all of it."
    else:
        length, step = windows[0].end - windows[0].start, windows[1].start - windows[0].start
        yield (
            f"Each moment shows the window centred on it: {length:.4g} s long, one every {step:.4g} s. "
            "Dashed: no window is centred there, so the first or last one is shown."
        )
        if group_size > 1:
            yield (
                f"Each point of a curve stands for {group_size} windows: the line is their mean, and the band reaches "
                "from the lowest to the highest."
            )
        yield "Figures outside the plots are for the whole movie: the mean over its windows."
    model = _model_name(prediction.bundle)
    yield f"Model: {model}, on {prediction.device}; video decoded by {prediction.video_decoder}."


def _model_name(bundle: str) -> str:
    with contextlib.suppress(BundleError, OSError):  # either bundle may be gone by now
        if sample_bundle().samefile(bundle):
            return "the sample bundle"
    path = Path(bundle).resolve()
    with contextlib.suppress(BundleError):
        if not is_bundle(path):
            # Checkpoints of every run have the same names, such as "best", so the run's folder is named too.
            return printable(str(Path(*path.parts[-2:])))
    return printable(path.name)
