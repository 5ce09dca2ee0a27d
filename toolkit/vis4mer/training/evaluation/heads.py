"""The head of each checkpoint that is evaluated, and the order of its classes; needs no PyTorch."""

from pathlib import Path

from vis4mer.config import CONFIG_FILE, HeadConfig, ModelConfig
from vis4mer.errors import CheckpointError, ConfigError, DataError
from vis4mer.models.config_file import IS_A_RUN, best_of_run, read_config
from vis4mer.training.data.listing import Listing


def find_head(checkpoint: Path, requested: str | None, task_name: str | None) -> tuple[str, HeadConfig]:
    """Returns the name and the configuration of the head to evaluate.

    Args:
        checkpoint: Model folder.
        requested: Name of the head; None for the only one, or for the one called `task_name`.
        task_name: Name of a benchmark's task, such as ``scene``; None for a user's own movies.

    Raises:
        CheckpointError: The checkpoint cannot be read, or has no encoder.
        ConfigError: There is no such head, or there are several and none was chosen.
    """
    heads = _encoding_config(checkpoint).heads
    if requested is None:
        if len(heads) == 1:
            (requested,) = heads
        elif task_name is not None and task_name in heads:
            requested = task_name
        else:
            rule = f"{checkpoint} has several heads: {', '.join(heads)}"
            raise ConfigError.of("head", None, rule, "choose one of them by its name")
    if requested not in heads:
        raise ConfigError.of("head", requested, f"must be one of {', '.join(heads)}, the heads of {checkpoint}")
    return requested, heads[requested]


def class_order(listing: Listing, head: HeadConfig, checkpoint: Path) -> list[int] | None:
    """Returns the index of the head's output for each class of the data set; None for a regression.

    Raises:
        DataError: The classes are not the same, or only one of the two is a regression.
    """
    if head.task != listing.task:
        rule = f"predicts a {head.task}, but the data set is a {listing.task}"
        raise DataError.of("checkpoint", checkpoint, rule)
    if differing := sorted(set(head.labels) ^ set(listing.labels)):
        owner = "the checkpoint" if differing[0] in head.labels else "the data set"
        counts = f"{len(head.labels)} and {len(listing.labels)} classes"
        raise DataError.of("checkpoint", checkpoint, f"only {owner} has the class {differing[0]!r} ({counts})")
    if head.task == "regression":
        return None
    return [head.labels.index(label) for label in listing.labels]


def _encoding_config(checkpoint: Path) -> ModelConfig:
    """Returns the configuration of a checkpoint that can encode movies."""
    remedy = "pass a checkpoint folder with an encoder"
    if not checkpoint.exists():
        raise CheckpointError.of("checkpoint", checkpoint, "no such folder", remedy)
    if checkpoint.is_file():
        raise CheckpointError.of("checkpoint", checkpoint, "is a file, which holds no encoder", remedy)
    if not (checkpoint / CONFIG_FILE).exists():
        if (best := best_of_run(checkpoint)) is not None:
            raise CheckpointError.of("checkpoint", checkpoint, IS_A_RUN, f"pass its best model, {str(best)!r}")
        raise CheckpointError.of("checkpoint", checkpoint, f"holds no {CONFIG_FILE}", remedy)
    config = read_config(checkpoint)
    if config.encoder is None:
        raise CheckpointError.of("checkpoint", checkpoint, "holds no encoder", remedy)
    return config
