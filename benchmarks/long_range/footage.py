"""Movies as tokens: every scene is drawn and encoded once, and movies are cut from what there is.

The encoder sees one frame at a time and cuts fall on whole seconds, so the tokens of a movie at 1 frame/s are those of
its scenes one after the other, wherever in the movie a scene is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from cottage.film import Format, render
from cottage.scenes import Scene, Tale
from cottage.tales import QUESTIONS, tell
from torch import Tensor

from vis4mer.devices.device import CPU
from vis4mer.runtime.backends.registry import open_graph
from vis4mer.runtime.bundle import ENCODER, Bundle
from vis4mer.video.resize import resize

TOKENS = 1
"""P of a frame: the mean of all that the encoder gives."""

FEATURES = 64
"""D of a token."""

_BUNDLE = Path(__file__).parents[2] / "samples" / "bundle"


@dataclass(frozen=True)
class Movies:
    """M movies that ask one question.

    Attributes:
        rows: of the footage, int64 [M, T], one of every second.
        targets: indices of the labels, int64 [M].
        gaps: seconds between the telling scenes, int64 [M].
    """

    rows: Tensor
    targets: Tensor
    gaps: Tensor

    def __len__(self) -> int:
        return len(self.targets)


class Footage:
    """Tokens of scenes, taken by the sample bundle's encoder, which learned to see who is at the cottage's door."""

    def __init__(self) -> None:
        bundle = Bundle.open(_BUNDLE)
        self._encoder = open_graph(bundle, ENCODER, CPU)
        self._preprocessing = bundle.model.preprocessing
        self._rows: dict[Scene, list[int]] = {}
        self._tokens: list[np.ndarray] = []
        self._count = 0

    @property
    def tokens(self) -> Tensor:
        """All that was shot: float32 [rows, P, D]."""
        return torch.from_numpy(np.concatenate(self._tokens))

    def shoot(self, tale: Tale) -> list[int]:
        """Returns the rows of a movie's seconds; scenes that are new are drawn and encoded."""
        return [row for scene in tale.scenes for row in self._scene(scene)]

    def movies(self, question: str, gaps: Sequence[int], seeds: range) -> Movies:
        """Shoots a movie for every seed and gap."""
        tales = [(gap, tell(question, gap, seed)) for seed in seeds for gap in gaps]
        labels = QUESTIONS[question].labels
        return Movies(
            torch.tensor([self.shoot(tale) for _, tale in tales]),
            torch.tensor([labels.index(tale.label) for _, tale in tales]),
            torch.tensor([gap for gap, _ in tales]),
        )

    def _scene(self, scene: Scene) -> list[int]:
        alone = replace(scene, start=0, end=scene.end - scene.start)
        if alone not in self._rows:
            tokens = self._encode(alone)
            self._rows[alone] = list(range(self._count, self._count + len(tokens)))
            self._tokens.append(tokens)
            self._count += len(tokens)
        return self._rows[alone]

    def _encode(self, scene: Scene) -> np.ndarray:
        pictures = render(Tale(0, "", (scene,)), Format(fps=1))
        frames = [resize(np.moveaxis(picture, 2, 0), self._preprocessing) for picture in pictures]
        return self._encoder(np.stack(frames)).mean(axis=1, keepdims=True)
