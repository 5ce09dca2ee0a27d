"""The record of a model's training: its data, code, settings and command."""

import dataclasses
import json
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from vis4mer.training.config import TrainConfig
from vis4mer.training.data.listing import Split

RECORD_FILE = "training.json"
"""Name of the file in a model's folder that holds the record of its training."""


@dataclass(frozen=True)
class Origin:
    """The part of a run's record that its caller supplies.

    Attributes:
        command: Command line that started it; empty if it was started from Python.
        protocol: Name of the published benchmark; None for a user's own data.
        chosen_on: Split that decides which epoch is best. ``test`` reproduces the published code, whose results on the
            test split are optimistic.
        missing: Names of the missing movies of each split.
        skipped: Names of the movies of each split that cannot be read and were left out.
        cache: Folder of the encoded movies, which a resumed run uses again; None for the one in the run's folder.
    """

    command: str = ""
    protocol: str | None = None
    chosen_on: Split = "val"
    missing: Mapping[Split, Sequence[str]] = field(default_factory=dict)
    skipped: Mapping[Split, Sequence[str]] = field(default_factory=dict)
    cache: str | None = None


def training_record(origin: Origin, data: Mapping[str, Any], config: TrainConfig, processes: int) -> dict[str, Any]:
    """Returns the part of the record that all epochs of a run share, as JSON.

    Args:
        origin: Origin of the run.
        data: Digest of the movies, and their number in each split.
        config: Hyperparameters.
        processes: Number of processes that train together.
    """
    return {
        "protocol": origin.protocol,
        "chosen_on": origin.chosen_on,
        "data": {
            **data,
            "missing": {split: list(names) for split, names in origin.missing.items()},
            "skipped": {split: list(names) for split, names in origin.skipped.items()},
        },
        "settings": dataclasses.asdict(config),
        "processes": processes,
        "code": _code(),
        "command": origin.command,
        "cache": origin.cache,
    }


def read_record(folder: Path) -> dict[str, Any]:
    """Reads the record of a saved model's training; returns an empty one if the model has none that can be read."""
    try:
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # RecursionError: nested too deeply
        return {}
    return record if isinstance(record, dict) else {}


def training_facts(record: Mapping[str, Any]) -> Iterator[str]:
    """Yields lines of Markdown for the model card: the record without command and cache, which hold private paths."""
    data, code, figures = record["data"], record["code"], record["figures"]
    chosen_on = record["chosen_on"]
    yield f"Data: {record['protocol'] or 'a listing'}, digest `{data['sha256']}`"
    yield f"Movies: {data['train']} to learn from, {data[chosen_on]} ({chosen_on}) to choose the epoch by"
    for absence, of_split in (("Missing", data["missing"]), ("Unreadable", data["skipped"])):
        if counts := [f"{len(names)} of {split}" for split, names in of_split.items() if names]:
            yield f"{absence} movies: {', '.join(counts)}"
    if chosen_on == "test":
        yield "The epoch was chosen on the test split, as in the published code: figures on that split are too good"
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if name != "seconds")
    yield f"Figures: {numbers}; of {record['settings']['epochs']} epochs"
    commit = f", commit `{code['commit']}`" if code["commit"] else ""
    yield f"Code: vis4mer {code['vis4mer']}{commit}, PyTorch {code['torch']}"


def _code() -> dict[str, Any]:
    return {
        "vis4mer": metadata.version("vis4mer"),
        "commit": _commit(Path(__file__).parents[1]),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _commit(package: Path) -> str | None:
    """Returns the commit of the package's checkout, with ``-dirty`` after changes; None for an installed copy."""
    try:
        # An installed copy may lie in another repository, such as the user's own; there, git does not track it.
        _git(package, "ls-files", "--error-unmatch", "__init__.py")
        return _git(package, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
