"""Long-video classification: a movie file in, a verified prediction with a timeline out.

``vis4mer.load`` is the only name most programs need::

    import vis4mer

    classifier = vis4mer.load("samples/bundle")
    prediction = classifier("samples/movie.mp4")

Importing this package loads neither torch, nor DALI, nor TensorRT; the parts that need them import them when used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from vis4mer.version import __version__

if TYPE_CHECKING:
    from vis4mer.runtime.classifier import Classifier
    from vis4mer.runtime.loading import load
    from vis4mer.runtime.outcome import Outcome
    from vis4mer.runtime.prediction import Prediction
    from vis4mer.training.evaluate import evaluate
    from vis4mer.training.extract import extract
    from vis4mer.training.settings import ExtractSettings, TrainSettings
    from vis4mer.training.train import train
    from vis4mer_export.api import export

__all__ = [
    "Classifier",
    "ExtractSettings",
    "Outcome",
    "Prediction",
    "TrainSettings",
    "__version__",
    "evaluate",
    "export",
    "extract",
    "load",
    "train",
]


_MODULES = {
    "Classifier": "vis4mer.runtime.classifier",
    "ExtractSettings": "vis4mer.training.settings",
    "Outcome": "vis4mer.runtime.outcome",
    "Prediction": "vis4mer.runtime.prediction",
    "export": "vis4mer_export.api",
    "TrainSettings": "vis4mer.training.settings",
    "evaluate": "vis4mer.training.evaluate",
    "extract": "vis4mer.training.extract",
    "load": "vis4mer.runtime.loading",
    "train": "vis4mer.training.train",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'vis4mer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
