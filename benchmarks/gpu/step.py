"""One step of a run: the commands that it executes, what it needs, and what is read from its output."""

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Command = tuple[str, ...]
"""A program and its arguments; paths are relative to the repository."""

Figures = Mapping[str, Any]
"""What a step found, for the result file."""


def no_figures(log: str) -> Figures:
    """Returns no figures."""
    return {}


@dataclass(frozen=True)
class Step:
    """A part of the run, in processes of its own.

    Attributes:
        name: Name of the step, for ``--only``, its log file and the result.
        commands: Commands that are executed one after the other, until one fails.
        expected: Seconds that the step is expected to take, for the time left and for ``--minutes``.
        limit: Seconds after which the step is stopped.
        priority: Place in a run with ``--minutes``, where steps of a lower number come first.
        programs: Programs without which the step cannot run.
        packages: Python packages without which it cannot run.
        after: Steps that must have passed before.
        environment: Variables that are added to the environment.
        outputs: Files that the commands write; those of an earlier run are removed before.
        figures: Reads figures from the log, and from `outputs`.
    """

    name: str
    commands: tuple[Command, ...]
    expected: float
    limit: float
    priority: int = 2
    programs: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[Path, ...] = ()
    figures: Callable[[str], Figures] = no_figures

    def missing(self) -> str:
        """Returns why the step cannot run on this machine; empty if it can."""
        for program in self.programs:
            if shutil.which(program) is None:
                return f"the program {program} is not installed"
        for package in self.packages:
            if not _installed(package):
                return f"the Python package {package} is not installed"
        return ""


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # a parent package is absent
        return False
