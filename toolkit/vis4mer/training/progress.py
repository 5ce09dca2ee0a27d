"""How a long call reports what it has done."""

from collections.abc import Callable, Mapping

Progress = Callable[[str, float, float], None]
"""A callback that receives the name of a task, the amount of it that is done, and its total amount.

It is called often, from the thread of the call that it reports on. Tasks follow each other, each under its own name.
"""

EpochRecord = Mapping[str, float]
"""Figures of one training epoch by name; see `vis4mer.training.fit.loop.Trainer.run`."""


def ignore_progress(task: str, done: float, total: float) -> None:
    """A `Progress` callback that does nothing."""
