"""The configuration of a checkpoint folder, which can be read without PyTorch."""

import json
from pathlib import Path

from vis4mer.config import CONFIG_FILE, ModelConfig
from vis4mer.errors import CheckpointError
from vis4mer.text import first_line

IS_A_RUN = "is the folder of a training run, not a model"


def read_config(folder: Path) -> ModelConfig:
    """Reads the configuration of a model.

    Args:
        folder: Checkpoint folder.

    Raises:
        CheckpointError: The file is missing, or is not a valid configuration.
    """
    path = folder / CONFIG_FILE
    try:
        return ModelConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, OSError, RecursionError) as error:  # not JSON, nested too deeply, not UTF-8, not valid
        raise CheckpointError.of("config", path, first_line(error), "restore the file") from None


def best_of_run(path: Path) -> Path | None:
    """Returns the folder of a training run's best model; None if `path` is not the folder of a run."""
    best = path / "best"
    return best if (best / CONFIG_FILE).exists() else None
