"""The optimiser and its learning rates over time."""

import math
from typing import Any

from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from vis4mer.config import Task
from vis4mer.models.decoder import S4Decoder
from vis4mer.training.config import TrainConfig


def parameter_groups(head: S4Decoder, config: TrainConfig) -> list[dict[str, Any]]:
    """Splits a head's parameters into those of its state spaces (A, B, dt) and all others.

    Decay would not regularise A, B and dt: towards zero, A loses its poles and dt its time scale.

    Args:
        head: to train.
        config: learning rates and decay.

    Returns:
        Two groups for an optimiser, named "weights" and "ssm".

    Reference: Gu, Goel & Ré, S4 (ICLR 2022), section D.2; ViS4mer's published code.
    """
    ssm = {id(parameter) for parameter in head.ssm_parameters()}
    return [
        {
            "name": "weights",
            "params": [parameter for parameter in head.parameters() if id(parameter) not in ssm],
            "lr": config.lr,
            "weight_decay": config.weight_decay,
        },
        {"name": "ssm", "params": head.ssm_parameters(), "lr": config.ssm_lr, "weight_decay": 0.0},
    ]


def build_optimizer(head: S4Decoder, config: TrainConfig) -> AdamW:
    """Builds AdamW over `parameter_groups`."""
    return AdamW(parameter_groups(head, config))


def build_scheduler(
    optimizer: Optimizer, config: TrainConfig, task: Task, steps_per_epoch: int
) -> LambdaLR | ReduceLROnPlateau:
    """Builds the schedule of `config`; a `LambdaLR` steps once per batch, a `ReduceLROnPlateau` once per epoch.

    The published code steps its plateau schedule in ``min`` mode with the accuracy, so that it decays while the model
    improves. Here the mode follows the metric, unless ``as_published`` asks for that fault.
    """
    if config.schedule == "plateau":
        least = task == "regression" or config.as_published
        return ReduceLROnPlateau(optimizer, mode="min" if least else "max", factor=0.2, patience=1)
    total = config.epochs * steps_per_epoch
    warmup = math.ceil(config.warmup * total)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    return LambdaLR(optimizer, factor)
