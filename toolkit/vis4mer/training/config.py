"""How a head is trained, as one frozen dataclass that validates itself."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from vis4mer.errors import ConfigError

Schedule = Literal["cosine", "plateau"]
TrainPrecision = Literal["fp32", "bf16"]
TokenDtype = Literal["bf16", "fp32"]


@dataclass(frozen=True)
class TrainConfig:
    """Hyperparameters of a training run; together with the data and the model they determine its result on a CPU.

    The learning rates, the weight decay and the batch size default to those of the published LVU protocol.

    Attributes:
        epochs: Passes over the training movies, with one random window of each movie per pass.
        batch_size: Windows per optimiser step, and per step of the validation.
        lr: Peak learning rate of AdamW.
        ssm_lr: Peak learning rate of the S4 layers' A, B and dt.
        weight_decay: Weight decay of all parameters except A, B and dt.
        schedule: ``cosine`` warms up linearly, then decays to zero along a half cosine. ``plateau`` is the published
            schedule: it multiplies the rate by 0.2 when the validation metric has not improved for two epochs.
        warmup: Fraction of all steps in which ``cosine`` warms up, in [0, 1).
        clip_norm: Largest norm of the gradient; larger gradients are scaled down to it.
        seed: Seed of the order of movies, of the windows and of the dropout.
        precision: ``bf16`` runs matrix products in bfloat16 (autocast). Weights, their updates and the state spaces of
            the S4 layers stay in float32.
        as_published: Reproduces a defect of the published code, for comparison: its ``plateau`` schedule treats the
            accuracy as a loss, and therefore decays while the model improves.
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
    precision: TrainPrecision = "fp32"
    as_published: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            self._require(name, getattr(self, name) >= 1, "must be at least 1")
        for name in ("lr", "ssm_lr", "clip_norm"):
            self._require(name, 0 < getattr(self, name) < math.inf, "must be positive and finite")
        self._require("weight_decay", 0 <= self.weight_decay < math.inf, "must be 0 or positive and finite")
        self._require("schedule", self.schedule in get_args(Schedule), f"must be one of {get_args(Schedule)}")
        self._require(
            "precision", self.precision in get_args(TrainPrecision), f"must be one of {get_args(TrainPrecision)}"
        )
        is_published_schedule = self.schedule == "plateau" or not self.as_published
        self._require("schedule", is_published_schedule, "must be 'plateau' to train as published")
        self._require("warmup", 0 <= self.warmup < 1, "must be in [0, 1)")
        self._require("seed", 0 <= self.seed < 2**32, "must be in [0, 2**32)")

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ConfigError.of(name, getattr(self, name), rule)
