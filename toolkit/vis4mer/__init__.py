"""Long-video classification: a movie file in, a verified prediction with a timeline out.

``vis4mer.load`` is the only name most programs need::

    import vis4mer

    classifier = vis4mer.load("samples/bundle")
    prediction = classifier("samples/movie.mp4")

Importing this package loads neither torch, nor DALI, nor TensorRT; the parts that need them import them when used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vis4mer.runtime.classifier import Classifier, Prediction, load

__version__ = "0.1.0"
__all__ = ["Classifier", "Prediction", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Classifier", "Prediction", "load"):
        from vis4mer.runtime import classifier

        return getattr(classifier, name)
    raise AttributeError(f"module 'vis4mer' has no attribute {name!r}")
