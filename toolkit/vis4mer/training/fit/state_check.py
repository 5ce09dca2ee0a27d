"""Checks of a stored training state, which may come from another program or have been edited."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

_PARTS: Mapping[str, type] = {"identity": dict, "history": list, "head": dict, "optimizer": dict, "scheduler": dict}


def state_problem(state: object) -> str:
    """Returns why a file's content cannot be a training state; empty if it may be one."""
    if not isinstance(state, dict):
        return f"holds a {type(state).__name__}, not a training state"
    for name, kind in _PARTS.items():
        if not isinstance(state.get(name), kind):
            return f"holds no {kind.__name__} {name!r}"
    if not all(isinstance(name, str) and _is_dense(value) for name, value in state["head"].items()):
        return "holds a head that is not a state dict"
    if not isinstance(state.get("epochs"), int | None):  # earlier versions did not store it
        return "holds malformed 'epochs'"
    if not state["history"] or not all(map(_is_record, state["history"])):
        return "holds a malformed history"
    return ""


def optimizer_problem(state: Mapping[str, Any], optimizer: Optimizer) -> str:
    """Returns why AdamW cannot continue from a state dict; empty if it can.

    Args:
        state: State dict of the optimiser of the resumed run.
        optimizer: New optimiser of the same parameters.
    """
    expected = optimizer.state_dict()
    if not isinstance(groups := state.get("param_groups"), list) or len(groups) != len(expected["param_groups"]):
        return "its optimiser has other groups of parameters"
    for group, known in zip(groups, expected["param_groups"], strict=True):
        if not isinstance(group, dict) or group.get("params") != known["params"]:
            return "its optimiser has other parameters"
        for name, value in known.items():
            if not _same_kind(group.get(name, value), value):
                return f"its optimiser has a malformed {name!r}"
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = state.get("state")
    if not isinstance(moments, dict) or set(moments) != set(range(len(parameters))):
        return "its optimiser lacks the moments of some parameters"
    for index, parameter in enumerate(parameters):
        entry = moments[index] if isinstance(moments[index], dict) else {}
        fits = all(_fits(entry.get(name), parameter) for name in ("exp_avg", "exp_avg_sq"))
        if not fits or not _fits(entry.get("step"), torch.tensor(0.0)):
            return f"its optimiser's moments do not fit parameter {index}"
    return ""


def scheduler_problem(state: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Returns why a schedule cannot continue from a state dict; empty if it can.

    Args:
        state: State dict of the schedule of the resumed run. Versions of PyTorch differ in its private keys.
        expected: State dict of a new schedule of the same kind.
    """
    for name, value in expected.items():
        if name not in state and not name.startswith("_"):
            return f"its schedule lacks {name!r}"
        if not _same_kind(state.get(name, value), value):
            return f"its schedule has a malformed {name!r}"
    return ""


def _is_record(record: object) -> bool:
    if not isinstance(record, dict) or not {"epoch", "lr", "train_loss", "val_loss"} <= set(record):
        return False
    # Of a classification or of a regression.
    return ("val_accuracy" in record or "val_mse" in record) and all(map(_is_number, record.values()))


def _same_kind(value: object, known: object) -> bool:
    if isinstance(known, list | tuple):
        if not isinstance(value, list | tuple) or len(value) != len(known):
            return False
        return all(_same_kind(item, other) for item, other in zip(value, known, strict=True))
    if isinstance(known, bool) or known is None or not isinstance(known, int | float):
        return type(value) is type(known)
    return _is_number(value)


def _is_number(value: object) -> bool:
    # A schedule that has not seen a metric yet holds infinity as the best one.
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _is_dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided


def _fits(value: Any, parameter: Tensor) -> bool:
    return (
        _is_dense(value)
        and value.shape == parameter.shape
        and value.dtype == parameter.dtype
        and bool(value.isfinite().all())
    )
