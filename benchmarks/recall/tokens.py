"""Movies as tokens: every scene is drawn and encoded once, and movies are put together from the scenes' tokens.

The encoder sees one frame at a time and cuts fall on whole seconds. So the tokens of a movie at 1 frame/s are those of
its scenes in order, wherever in the movie a scene stands.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness.progress import progress
from samples.generator.film import Format, render
from samples.generator.questions import QUESTIONS, write_script
from samples.generator.scenes import Scene, Script
from vis4mer.devices.arrays import on_host
from vis4mer.devices.device import CPU
from vis4mer.runtime.bundle import Bundle
from vis4mer.runtime.interface import ENCODER
from vis4mer.video.resize import resize

TOKENS = 1
"""P, tokens for each frame: the mean of the encoder's tokens."""

FEATURES = 64
"""D, features of a token."""

_BUNDLE = Path(__file__).parents[2] / "samples" / "bundle"


@dataclass(frozen=True)
class Movies:
    """M movies that ask one question.

    Attributes:
        rows: Rows of `SceneTokens.tokens`, int64 [M, T], one for every second.
        targets: Indices of the labels, int64 [M].
        gaps: Seconds between the decisive scenes, int64 [M].
    """

    rows: Tensor
    targets: Tensor
    gaps: Tensor

    def __len__(self) -> int:
        return len(self.targets)


class SceneTokens:
    """Tokens of scenes from the sample bundle's encoder, which is trained to see who is at the cottage's door."""

    def __init__(self) -> None:
        bundle = Bundle.open(_BUNDLE)
        self._encoder = bundle.open_graph(ENCODER, CPU)
        self._preprocessing = bundle.model.preprocessing
        self._rows: dict[Scene, list[int]] = {}
        self._tokens: list[np.ndarray] = []
        self._count = 0

    @property
    def tokens(self) -> Tensor:
        """Tokens of all scenes so far, float32 [rows, P, D]."""
        return torch.from_numpy(np.concatenate(self._tokens))

    def rows(self, script: Script) -> list[int]:
        """Returns the rows of a movie's seconds; draws and encodes its new scenes."""
        return [row for scene in script.scenes for row in self._scene_rows(scene)]

    def movies(self, question: str, gaps: Sequence[int], seeds: range) -> Movies:
        """Returns a movie for every seed and gap."""
        scripts = [(gap, write_script(question, gap, seed)) for seed in seeds for gap in gaps]
        labels = QUESTIONS[question].labels
        drawing = progress(scripts, lambda _: "drawing movies")
        return Movies(
            torch.tensor([self.rows(script) for _, script in drawing]),
            torch.tensor([labels.index(script.label) for _, script in scripts]),
            torch.tensor([gap for gap, _ in scripts]),
        )

    def _scene_rows(self, scene: Scene) -> list[int]:
        alone = replace(scene, start=0, end=scene.end - scene.start)
        if alone not in self._rows:
            tokens = self._encode(alone)
            self._rows[alone] = list(range(self._count, self._count + len(tokens)))
            self._tokens.append(tokens)
            self._count += len(tokens)
        return self._rows[alone]

    def _encode(self, scene: Scene) -> np.ndarray:
        pictures = render(Script(0, "", (scene,)), Format(fps=1))
        frames = [resize(np.moveaxis(picture, 2, 0), self._preprocessing) for picture in pictures]
        tokens = on_host(self._encoder(np.stack(frames)))
        mean: np.ndarray = tokens.mean(axis=1, keepdims=True)
        return mean
