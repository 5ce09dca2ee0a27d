"""One model from one or more checkpoints: an encoder, and all their heads over it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch

from vis4mer.errors import ExportError
from vis4mer.models.checkpoint import load_checkpoint
from vis4mer.models.vis4mer import Vis4mer


def assemble(checkpoint: Path, heads: Mapping[str, Path]) -> Vis4mer:
    """Loads a checkpoint and adds the heads of others, trained apart over the same encoder.

    Args:
        checkpoint: gives the encoder, if it has one, the preprocessing and windows, and its own heads.
        heads: further checkpoints by the name their head is to have; each holds one head.

    Raises:
        CheckpointError: a checkpoint cannot be read.
        ExportError: a name is taken, a checkpoint holds several heads, or was trained over another encoder or on
            other frames.
    """
    model = load_checkpoint(checkpoint)
    for name, path in heads.items():
        other = load_checkpoint(path)
        if name in model.config.heads:
            raise ExportError(f"head={name!r}: {checkpoint} or another --head already has that name; choose another")
        if len(other.config.heads) != 1:
            known = ", ".join(other.config.heads)
            raise ExportError(f"head={name!r}: {path} holds several heads ({known}); give it as --checkpoint")
        _require_same_input(name, path, model, other)
        (config,) = other.config.heads.values()
        model.config = dataclasses.replace(model.config, heads={**model.config.heads, name: config})
        model.heads[name] = other.head()
    return model


def _require_same_input(name: str, path: Path, model: Vis4mer, other: Vis4mer) -> None:
    """A head learned to read one encoder's tokens of one kind of frames; on others it would answer nonsense."""
    if other.encoder is None:
        return  # what its features were made of is not recorded; their width is checked by the configuration
    if model.encoder is None:
        raise ExportError(f"head={name!r}: {path} has an encoder and --checkpoint has none; swap the two")
    for what, ours, theirs in (
        ("encoder", model.config.encoder, other.config.encoder),
        ("preprocessing", model.config.preprocessing, other.config.preprocessing),
        ("windows", model.config.windows, other.config.windows),
    ):
        if ours != theirs:
            raise ExportError(f"head={name!r}: {path} was trained with another {what} ({theirs}, not {ours})")
    weights = other.encoder.state_dict()
    if any(not torch.equal(value, weights[key]) for key, value in model.encoder.state_dict().items()):
        raise ExportError(f"head={name!r}: {path} was trained over an encoder with other weights; export it apart")
