"""How a head is trained, as one frozen dataclass that validates itself."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from vis4mer.errors import ConfigError

Schedule = Literal["cosine", "plateau"]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run; with the data they determine its result on a CPU.

    The learning rates, the decay and the batch size are those of the published LVU protocol.

    Attributes:
        epochs: passes over the training movies, one random window of each.
        batch_size: windows per optimiser step, and per step of the validation.
        lr: peak learning rate of AdamW.
        ssm_lr: peak learning rate of the S4 layers' A, B and dt.
        weight_decay: of all parameters but A, B and dt.
        schedule: ``cosine`` warms up linearly and falls to zero along a half cosine; ``plateau`` is the published one:
            the rate is multiplied by 0.2 when the validation metric has not improved for more than one epoch.
        warmup: share of all steps in which ``cosine`` warms up, in [0, 1).
        clip_norm: the gradient's norm is clipped to it.
        seed: of the order, the windows and the dropout.
        precision: ``bf16`` computes matrix products and the like in bfloat16 (autocast); weights, their updates and
            the S4 layers' state spaces stay in float32.
        as_published: repeats a fault of the published code, to compare with it: its ``plateau`` schedule takes the
            accuracy for a loss, and so decays while the model improves.
    """

    epochs: int = 100
    batch_size: int = 16
    lr: float = 1e-3
    ssm_lr: float = 1e-3
    weight_decay: float = 0.01
    schedule: Schedule = "cosine"
    warmup: float = 0.05
    clip_norm: float = 1.0
    seed: int = 0
    precision: Precision = "fp32"
    as_published: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            self._require(name, getattr(self, name) >= 1, "must be at least 1")
        for name in ("lr", "ssm_lr", "clip_norm"):
            self._require(name, 0 < getattr(self, name) < math.inf, "must be positive and finite")
        self._require("weight_decay", 0 <= self.weight_decay < math.inf, "must be 0 or positive and finite")
        self._require("schedule", self.schedule in get_args(Schedule), f"must be one of {get_args(Schedule)}")
        self._require("precision", self.precision in get_args(Precision), f"must be one of {get_args(Precision)}")
        plateau = self.schedule == "plateau" or not self.as_published
        self._require("schedule", plateau, "must be 'plateau', the published one, with as_published")
        self._require("warmup", 0 <= self.warmup < 1, "must be in [0, 1)")
        self._require("seed", 0 <= self.seed < 2**32, "must be in [0, 2**32)")

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ConfigError(f"{name}={getattr(self, name)!r}: {rule}")
