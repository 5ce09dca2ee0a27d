"""One model from one or more checkpoints: an encoder, possibly from another source, and the heads over it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from vis4mer.errors import ExportError
from vis4mer.models.checkpoint import load_checkpoint
from vis4mer.models.encoder import FrameEncoder
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.runtime.interface import window_length
from vis4mer_export.heads import naming_head


class EncoderSource(NamedTuple):
    """Source of an encoder for a checkpoint of decoders only.

    Attributes:
        name: Name of the timm model.
        weights: A file, ``hub`` or ``random``; see `FrameEncoder.build`.
    """

    name: str
    weights: str


def assemble(
    checkpoint: Path,
    heads: Mapping[str, Path],
    encoder: EncoderSource | None = None,
    labels: Sequence[str] = (),
) -> Vis4mer:
    """Loads a checkpoint and adds the heads of others, which were trained separately over the same encoder.

    Args:
        checkpoint: Checkpoint that provides the preprocessing, the windows, its own heads and, if it has one, the
            encoder.
        heads: Further checkpoints with one head each, by the new name of the head.
        encoder: Encoder for a checkpoint that has none, such as the published code's. The windows then follow from the
            head's length.
        labels: Class names, in the order of the outputs of the checkpoint's only head; its own if empty.

    Raises:
        CheckpointError: A checkpoint, or the encoder's weights, cannot be read.
        ConfigError: A head does not take the encoder's tokens, or has another number of labels.
        ExportError: A name is taken; a further checkpoint has several heads, or was trained over another encoder or on
            other frames; or `encoder` is set for a checkpoint that has one.
    """
    model = load_checkpoint(checkpoint)
    if labels:
        _name_classes(model, tuple(labels))
    # The encoder comes before further heads, because they are compared with it and with the windows that follow from
    # it.
    if encoder is not None:
        model = _with_encoder(model, encoder)
    for name, path in heads.items():
        with naming_head(name):
            other = load_checkpoint(path)
        if name in model.config.heads:
            raise ExportError.of(
                "head", name, f"{checkpoint} or another --head already has that name", "choose another"
            )
        if len(other.config.heads) != 1:
            known = ", ".join(other.config.heads)
            raise ExportError.of("head", name, f"{path} holds several heads ({known})", "pass it as --checkpoint")
        _require_same_input(name, path, model, other)
        (config,) = other.config.heads.values()
        model.config = dataclasses.replace(model.config, heads={**model.config.heads, name: config})
        model.heads[name] = other.head()
    return model


def _name_classes(model: Vis4mer, labels: tuple[str, ...]) -> None:
    if len(model.config.heads) != 1:
        rule = "the checkpoint has several heads, each with its own labels"
        raise ExportError.of("labels", ",".join(labels), rule, "leave them out")
    heads = {name: dataclasses.replace(head, labels=labels) for name, head in model.config.heads.items()}
    model.config = dataclasses.replace(model.config, heads=heads)


def _with_encoder(model: Vis4mer, source: EncoderSource) -> Vis4mer:
    config = model.config
    if config.encoder is not None:
        raise ExportError.of(
            "encoder", source.name, f"the checkpoint has its own, {config.encoder.name}", "leave it out"
        )
    encoder = FrameEncoder.build(source.name, config.preprocessing, source.weights)
    # Published checkpoints record no window; its length is that of the sequences that the head was trained for.
    tokens, length = encoder.config.tokens, window_length(config)
    frames, rest = divmod(length, tokens)
    if rest or not frames:
        rule = f"its {tokens} tokens per frame do not fill the head's l_max={length} evenly"
        raise ExportError.of("encoder", source.name, rule, "name the encoder that the head was trained over")
    windows = dataclasses.replace(config.windows, seconds=frames / config.preprocessing.fps)
    whole = Vis4mer(dataclasses.replace(config, encoder=encoder.config, windows=windows), encoder)
    # The constructor made random heads; the trained ones replace them.
    whole.heads = model.heads
    return whole.eval()


def _require_same_input(name: str, path: Path, model: Vis4mer, other: Vis4mer) -> None:
    """Checks that a head was trained on this model's encoder and frames: on others its output would mean nothing."""
    if other.encoder is None:
        return  # the origin of its features is not recorded; the configuration checks their width
    if model.encoder is None:
        raise ExportError.of("head", name, f"{path} has an encoder and --checkpoint has none", "swap the two")
    for what, ours, theirs in (
        ("encoder", model.config.encoder, other.config.encoder),
        ("preprocessing", model.config.preprocessing, other.config.preprocessing),
        ("windows", model.config.windows, other.config.windows),
    ):
        if ours != theirs:
            raise ExportError.of("head", name, f"{path} was trained with another {what} ({theirs}, not {ours})")
    # Equal configurations do not imply equal weights: an encoder may come from another file or another seed.
    weights = other.encoder.state_dict()
    if any(not torch.equal(value, weights[key]) for key, value in model.encoder.state_dict().items()):
        rule = f"{path} was trained over an encoder with other weights"
        raise ExportError.of("head", name, rule, "export it separately")
