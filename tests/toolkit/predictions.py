"""Predictions that no model has made."""

from collections.abc import Mapping
from typing import Any

from vis4mer.runtime.prediction import HeadPrediction, Prediction
from vis4mer.video.frames import Damage


def made_up(heads: Mapping[str, HeadPrediction], **facts: Any) -> Prediction:
    """Returns a prediction of a sound movie on the CPU.

    Args:
        heads: Predictions by head.
        **facts: Other fields of `Prediction`: ``video``, ``duration`` and ``frames`` at least.
    """
    defaults: dict[str, Any] = {
        "stride": 1.0,
        "padded": False,
        "bundle": "bundle",
        "device": "cpu",
        "device_reason": "requested",
        "precision": "fp32",
        "precision_reason": "requested",
        "video_decoder": "pyav",
        "video_decoder_reason": "requested",
        "damage": Damage(),
    }
    return Prediction(heads=heads, **{**defaults, **facts})
