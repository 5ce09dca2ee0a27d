"""Decoding without a plan: every packet is sent to the video decoder."""

from typing import Any

import numpy as np

from vis4mer.video.planner import DecodePlan
from vis4mer.video.pyav import PyAVReader


class DecodeEverything(PyAVReader):
    """A reader that decodes all frames and drops those between the samples afterwards."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        packets = len(self._plan.send)
        self._plan = DecodePlan(np.ones(packets, bool), np.arange(packets) == packets - 1)
