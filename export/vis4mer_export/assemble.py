"""One model from one or more checkpoints: an encoder, which may come from elsewhere, and all their heads over it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from vis4mer.errors import ExportError
from vis4mer.models.checkpoint import load_checkpoint
from vis4mer.models.encoder import FrameEncoder
from vis4mer.models.vis4mer import Vis4mer


class EncoderSource(NamedTuple):
    """Where the encoder of a checkpoint that holds decoders only comes from.

    Attributes:
        name: timm's.
        weights: a file, ``hub`` or ``random``; see `FrameEncoder.build`.
    """

    name: str
    weights: str


def assemble(
    checkpoint: Path,
    heads: Mapping[str, Path],
    encoder: EncoderSource | None = None,
    labels: Sequence[str] = (),
) -> Vis4mer:
    """Loads a checkpoint and adds the heads of others, trained apart over the same encoder.

    Args:
        checkpoint: gives the encoder, if it has one, the preprocessing and windows, and its own heads.
        heads: further checkpoints by the name their head is to have; each holds one head.
        encoder: for a checkpoint that has none, as the published code's. Its windows follow from the head's length.
        labels: names of the classes of the checkpoint's only head, in their order; its own where empty.

    Raises:
        CheckpointError: a checkpoint, or the encoder's weights, cannot be read.
        ConfigError: the head does not take the encoder's tokens, or has another number of labels.
        ExportError: a name is taken, a checkpoint holds several heads, or was trained over another encoder or on
            other frames; or an encoder is given where there is one.
    """
    model = load_checkpoint(checkpoint)
    if labels:
        _name_classes(model, tuple(labels))
    if encoder is not None:
        model = _with_encoder(model, encoder)
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


def _name_classes(model: Vis4mer, labels: tuple[str, ...]) -> None:
    if len(model.config.heads) != 1:
        raise ExportError(f"labels={','.join(labels)}: the checkpoint has several heads; they have labels of their own")
    heads = {name: dataclasses.replace(head, labels=labels) for name, head in model.config.heads.items()}
    model.config = dataclasses.replace(model.config, heads=heads)


def _with_encoder(model: Vis4mer, source: EncoderSource) -> Vis4mer:
    config = model.config
    if config.encoder is not None:
        raise ExportError(f"encoder={source.name!r}: the checkpoint has its own, {config.encoder.name}; leave it out")
    encoder = FrameEncoder.build(source.name, config.preprocessing, source.weights)
    tokens, length = encoder.config.tokens, min(head.decoder.l_max for head in config.heads.values())
    frames, rest = divmod(length, tokens)
    if rest or not frames:
        rule = f"its {tokens} tokens a frame do not fill the head's l_max={length} evenly"
        raise ExportError(f"encoder={source.name!r}: {rule}; name the encoder that the head was trained on")
    windows = dataclasses.replace(config.windows, seconds=frames / config.preprocessing.fps)
    whole = Vis4mer(dataclasses.replace(config, encoder=encoder.config, windows=windows), encoder)
    whole.heads = model.heads
    return whole.eval()


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
