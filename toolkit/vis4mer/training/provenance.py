"""Where a trained model comes from: which data, which code, at whose command."""

import dataclasses
import hashlib
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
from vis4mer.training.data import Movie
from vis4mer.training.listing import Split

RECORD_FILE = "training.json"
"""Name of the record of its training in a model's folder."""


@dataclass(frozen=True)
class Origin:
    """What only the caller of a training run knows of it.

    Attributes:
        command: that started it, empty where none did.
        protocol: name of the published benchmark, or None for a user's own data.
        chosen_on: split that decides which epoch is best; ``test`` in the published code, which makes its results too
            good.
        missing: names of the movies of each split that should have been there and were not.
    """

    command: str = ""
    protocol: str | None = None
    chosen_on: Split = "val"
    missing: Mapping[Split, Sequence[str]] = field(default_factory=dict)


def training_record(origin: Origin, data: Mapping[str, Any], config: TrainConfig, processes: int) -> dict[str, Any]:
    """Builds what is the same in the records of all epochs of a run, as JSON.

    Args:
        origin: of the run.
        data: digest of the movies, and how many there are of each split.
        config: how they are learned from.
        processes: that train together.
    """
    return {
        "protocol": origin.protocol,
        "chosen_on": origin.chosen_on,
        "data": {**data, "missing": {split: list(names) for split, names in origin.missing.items()}},
        "settings": dataclasses.asdict(config),
        "processes": processes,
        "code": _code(),
        "command": origin.command,
    }


def read_record(folder: Path) -> dict[str, Any]:
    """Reads the record of a saved model's training; empty where it has none that can be read."""
    try:
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def training_facts(record: Mapping[str, Any]) -> Iterator[str]:
    """Says the same to readers of a model card, each fact on one line of Markdown; the command stays in the record."""
    data, code, figures = record["data"], record["code"], record["figures"]
    chosen_on = record["chosen_on"]
    yield f"Data: {record['protocol'] or 'a listing'}, digest `{data['sha256']}`"
    yield f"Movies: {data['train']} to learn from, {data[chosen_on]} ({chosen_on}) to choose the epoch by"
    if missing := {split: len(names) for split, names in data["missing"].items() if names}:
        yield f"Missing movies: {', '.join(f'{count} of {split}' for split, count in missing.items())}"
    if chosen_on == "test":
        yield "The epoch was chosen on the test split, as the published code does: figures there are too good"
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if name != "seconds")
    yield f"Figures: {numbers}; of {record['settings']['epochs']} epochs"
    commit = f", commit `{code['commit']}`" if code["commit"] else ""
    yield f"Code: vis4mer {code['vis4mer']}{commit}, PyTorch {code['torch']}"


def movies_digest(*splits: Sequence[Movie]) -> str:
    """Digest of which movies (token files are named by their content's identity) stand for which targets."""
    facts = [[(movie.tokens.path.name, movie.tokens.frames, movie.target) for movie in movies] for movies in splits]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _code() -> dict[str, Any]:
    return {
        "vis4mer": metadata.version("vis4mer"),
        "commit": _commit(Path(__file__).parents[1]),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _commit(package: Path) -> str | None:
    """The commit of the package's checkout, with ``-dirty`` where files were changed; None for an installed copy."""
    try:
        # An installed copy may lie within somebody else's repository.
        _git(package, "ls-files", "--error-unmatch", "__init__.py")
        return _git(package, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
