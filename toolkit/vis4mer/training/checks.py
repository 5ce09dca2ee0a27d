"""What could not be trained, refused before the first step is spent on it."""

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from vis4mer.config import HeadConfig
from vis4mer.errors import ConfigError, DataError
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.training.config import TrainConfig
from vis4mer.training.data import Movie
from vis4mer.training.distributed import Processes
from vis4mer.training.features import FeatureCache
from vis4mer.training.listing import Listing
from vis4mer.training.state import RunFolder

_SETTINGS = {field.name for field in dataclasses.fields(TrainConfig)}


def check_movies(model: Vis4mer, head: str, movies: Sequence[Movie], split: str) -> None:
    """Checks that a head can take the movies' tokens and targets.

    Args:
        model: holds the head.
        head: its name.
        movies: of one split.
        split: its name, for the message.

    Raises:
        DataError: the split is empty, or tokens or targets do not fit the model.
    """
    if not movies:
        raise DataError(f"split={split!r}: holds no movie")
    config = model.config.heads[head]
    per_frame = model.config.encoder.tokens if model.config.encoder else movies[0].tokens.tokens
    wanted = (per_frame, config.decoder.d_input)
    for movie in movies:
        name, found = str(movie.tokens.path), (movie.tokens.tokens, movie.tokens.features)
        if found != wanted:
            raise DataError(
                f"tokens={name!r}: {found[0]} tokens of {found[1]} features a frame, but the model takes "
                f"{wanted[0]} of {wanted[1]}; use the cache of the model's encoder"
            )
        if config.task == "classification" and movie.target not in range(config.decoder.d_output):
            raise DataError(
                f"target={movie.target!r} of {name!r}: must be a class index below d_output={config.decoder.d_output}"
            )


def class_order(listing: Listing, head: HeadConfig, checkpoint: str) -> list[int]:
    """Returns the head's number of each of a data set's classes; nothing for a regression.

    Args:
        listing: what the movies are.
        head: what the head predicts.
        checkpoint: its name, for the message.

    Raises:
        DataError: they are not the same classes, or one is a regression and the other is not.
    """
    if head.task != listing.task:
        raise DataError(f"checkpoint={checkpoint!r}: predicts a {head.task}, but the data set is a {listing.task}")
    if differing := sorted(set(head.labels) ^ set(listing.labels)):
        whose = "the checkpoint" if differing[0] in head.labels else "the data set"
        counts = f"{len(head.labels)} and {len(listing.labels)} classes"
        raise DataError(f"checkpoint={checkpoint!r}: only {whose} has the class {differing[0]!r} ({counts})")
    return [head.labels.index(label) for label in listing.labels]


def check_cache(cache: FeatureCache) -> None:
    """Checks that a cache was not filled by another encoder: all movies would be encoded again, which takes long.

    Raises:
        DataError: it was, and holds nothing of this one's.
    """
    others = [maker for maker in cache.folder.parent.glob("*/encoder.json") if _is_filled(maker.parent)]
    if not others or _is_filled(cache.folder):
        return
    now, other = (json.loads((folder / "encoder.json").read_text()) for folder in (cache.folder, others[0].parent))
    raise DataError(
        f"cache={str(cache.folder.parent)!r}: was made by another encoder or of other frames "
        f"({', '.join(_differences(other, now))}); give the same settings, give another folder, or add these tokens "
        "by vis4mer extract"
    )


def _differences(there: Mapping[str, Any], here: Mapping[str, Any], within: str = "") -> Iterator[str]:
    for name, value in here.items():
        if isinstance(value, Mapping):
            yield from _differences(there.get(name, {}), value, f"{within}{name}.")
        elif there.get(name) != value:
            yield f"{within}{name} is {there.get(name)!r} there and {value!r} here"


def _is_filled(folder: Path) -> bool:
    return next(folder.glob("*.safetensors"), None) is not None


def check_same(processes: Processes, *splits: Sequence[Movie]) -> None:
    """Checks that all processes were given the same movies, for each picks its share of them by number.

    Raises:
        DataError: they were not.
    """
    facts = [(len(movies), *((movie.tokens.frames, movie.target) for movie in movies)) for movies in splits]
    all_facts = processes.gather(facts)
    with processes.together():
        if facts != all_facts[0]:
            raise DataError(f"rank={processes.rank}: has other movies than the first process; give all the same")


def check_space(folder: RunFolder, model: Vis4mer, head: nn.Module) -> None:
    """Checks that a run's folder has room for what each epoch writes.

    Args:
        folder: of the run; while a file in it is replaced, the old and the new one are there.
        model: the best and the last are kept.
        head: the state to resume from holds it and the optimiser's two moments.

    Raises:
        DataError: it has not.
    """
    saved, state = _bytes(model), 3 * _bytes(head)
    needed = saved + state if folder.holds_run else 3 * saved + 2 * state
    free = shutil.disk_usage(folder.path).free
    if free < needed:
        raise DataError(
            f"output={str(folder.path)!r}: {free / 1e6:.0f} MB are free, but models and training state need "
            f"{needed / 1e6:.0f} MB; make room or give another folder"
        )


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())


def check_resumed(folder: RunFolder, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Checks that a run goes on with the settings and data it was begun with.

    Args:
        folder: of the run.
        before: what identifies the run that it holds.
        now: what identifies the one that is to go on with it.

    Raises:
        ConfigError: it does not.
    """
    for name, value in now.items():
        if before.get(name) != value:
            detail = f"is {value!r} now, was {before.get(name)!r}" if name in _SETTINGS else "has changed"
            raise ConfigError(f"{name}: {detail} in the run that {str(folder.path)!r} holds; start a new one")
