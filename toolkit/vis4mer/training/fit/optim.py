"""The optimiser and its learning rate schedules."""

import math
from collections.abc import Mapping
from typing import Any

from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from vis4mer.config import Task
from vis4mer.models.decoder import S4Decoder
from vis4mer.training.config import TrainConfig


def parameter_groups(head: S4Decoder, config: TrainConfig) -> list[dict[str, Any]]:
    """Splits a head's parameters into those of its state spaces (A, B, dt) and all others.

    Weight decay does not regularise A, B and dt: near zero, A loses its poles and dt its time scale.

    Args:
        head: Head to train.
        config: Learning rates and weight decay.

    Returns:
        Two parameter groups of an optimiser, named "weights" and "ssm".

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
    """Builds AdamW with `parameter_groups`."""
    return AdamW(parameter_groups(head, config))


def build_scheduler(
    optimizer: Optimizer, config: TrainConfig, task: Task, steps_per_epoch: int
) -> LambdaLR | ReduceLROnPlateau:
    """Builds the learning rate schedule.

    Args:
        optimizer: Optimiser whose rates follow the schedule.
        config: Kind of schedule, and its parameters.
        task: Task of the head, which decides whether its metric should grow or shrink.
        steps_per_epoch: Steps of the optimiser in each epoch.

    Returns:
        A `LambdaLR` to step after each batch, or a `ReduceLROnPlateau` to step after each epoch with the metric.
    """
    if config.schedule == "plateau":
        # The published code steps in "min" mode with the accuracy, so its rate decays while the model improves.
        # as_published reproduces that defect.
        smaller_is_better = task == "regression" or config.as_published
        return ReduceLROnPlateau(optimizer, mode="min" if smaller_is_better else "max", factor=0.2, patience=1)
    n_steps = config.epochs * steps_per_epoch
    n_warmup = math.ceil(config.warmup * n_steps)

    def factor(step: int) -> float:
        # The warm-up begins above zero, so that the first step trains.
        if step < n_warmup:
            return (step + 1) / (n_warmup + 1)
        # After the last step LambdaLR evaluates n_steps, where a run that is all warm-up would divide zero by zero.
        return 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / max(1, n_steps - n_warmup)))

    return LambdaLR(optimizer, factor)


def restore_schedule(scheduler: LambdaLR | ReduceLROnPlateau, state: Mapping[str, Any]) -> None:
    """Continues a schedule after the step that a state was saved at; its optimiser's state must be restored first.

    Args:
        scheduler: Schedule, whose number of steps may differ from that of the saved one.
        state: State dict of the saved schedule.
    """
    scheduler.load_state_dict(dict(state))
    if isinstance(scheduler, ReduceLROnPlateau):
        return
    # The state holds the step, but not the function of the step. The optimiser's state holds the rates of the old
    # function, with which the next step would train. For an unchanged function this computes the same bits.
    groups = zip(scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    for group, peak, factor in groups:
        group["lr"] = peak * factor(scheduler.last_epoch)
