"""`vis4mer inspect`: describes a checkpoint or a bundle."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vis4mer.cli.options import json_option
from vis4mer.config import EncoderConfig, HeadConfig, ModelConfig, Preprocessing
from vis4mer.text import printable

if TYPE_CHECKING:
    from vis4mer.runtime.bundle import Bundle

_MOST_LABELS = 12
_SHA256 = re.compile(r"[0-9a-f]{64}")


@click.command(short_help="Describe a checkpoint or a bundle.")
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def inspect(path: Path, as_json: bool) -> None:
    """Describe the checkpoint or bundle at PATH.

    A bundle's files are checked against its manifest; a checkpoint is loaded, which needs vis4mer[torch].
    """
    from vis4mer.runtime.bundle import Bundle
    from vis4mer.runtime.loading import is_bundle

    if is_bundle(path):
        bundle = Bundle.open(path)
        bundle.verify()
        model, facts = bundle.model, _bundle_facts(bundle)
    else:
        model, facts = _load_checkpoint(path)
    if as_json:
        values = {"path": str(path), **facts, "model": model.to_dict()}
        click.echo(json.dumps(values, indent=2, default=lambda interface: interface.to_dict()))
        return
    rows = [("path", str(path)), *_fact_rows(facts), *_model_rows(model)]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {printable(value)}")


def _bundle_facts(bundle: "Bundle") -> dict[str, Any]:
    return {
        "kind": "bundle",
        "format": bundle.format,
        "precision": bundle.precision,
        "interface": dict(bundle.interface),
        "files": {name: {"sha256": file.sha256, "bytes": file.bytes} for name, file in bundle.files.items()},
        "tools": dict(bundle.tools),
        "parity": dict(bundle.parity),
        "lowering": dict(bundle.lowering),
    }


def _load_checkpoint(path: Path) -> tuple[ModelConfig, dict[str, Any]]:
    from vis4mer.runtime.loading import load_model

    model = load_model(path)
    parts = {"encoder": model.encoder, **model.heads}
    parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items() if part is not None}
    kind = "checkpoint" if path.is_dir() else "state dict of the published ViS4mer"
    return model.config, {"kind": kind, "parameters": parameters}


def _fact_rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields a row for each fact, and one for each entry of a fact that has several."""
    for name, value in facts.items():
        entries = value if isinstance(value, dict) else {"": value}
        for key, entry in entries.items():
            for part, words in _parts(entry):
                if words:
                    yield f"{name} {key} {part}".strip(), words


def _parts(entry: Any) -> Iterator[tuple[str, str]]:
    """Yields an entry on one line, and each object of a list within it, such as a head's blocks, under its number."""
    objects = {}
    if isinstance(entry, dict):
        objects = {key: items for key, items in entry.items() if items and _are_objects(items)}
        entry = {key: item for key, item in entry.items() if key not in objects}
    yield "", _in_words(entry)
    for key, items in objects.items():
        for number, item in enumerate(items):
            yield f"{key} {number}", _in_words(item)


def _are_objects(items: Any) -> bool:
    return isinstance(items, list) and all(isinstance(item, dict) for item in items)


def _in_words(value: Any) -> str:
    """Returns a value on one line: the leaves of nested objects unless they are empty, the beginning of a digest."""
    match value:
        case dict():
            return ", ".join(f"{key} {words}" for key, item in value.items() if (words := _in_words(item)))
        case list() | tuple():
            return " ".join(map(_in_words, value))
        case None:
            return ""
        case bool():
            return str(value)
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.3g}"
    text = str(value)
    return f"{text[:12]}..." if _SHA256.fullmatch(text) else text


def _model_rows(model: ModelConfig) -> list[tuple[str, str]]:
    heads = [(f"head {name}", _describe_head(head)) for name, head in model.heads.items()]
    if model.encoder is None:
        return [("encoder", "none: the heads take features"), *heads]
    return [
        ("encoder", _describe_encoder(model.encoder)),
        ("frames", _describe_frames(model.preprocessing)),
        ("normalised", f"mean {_in_words(model.preprocessing.mean)}, std {_in_words(model.preprocessing.std)}"),
        ("windows", _describe_windows(model)),
        *heads,
    ]


def _describe_encoder(encoder: EncoderConfig) -> str:
    span = "per frame" if encoder.frames == 1 else f"per {encoder.frames} frames"
    return f"{encoder.name}, {encoder.tokens} tokens of {encoder.features} features {span}"


def _describe_frames(frames: Preprocessing) -> str:
    sampling = f"{frames.fps:g} per second" if frames.segments is None else f"{frames.segments} segments"
    last = " and the last" if frames.last_frame else ""
    return f"{sampling}{last}, {frames.height} x {frames.width}, {frames.resize}, {frames.interpolation}"


def _describe_windows(model: ModelConfig) -> str:
    windows = model.windows
    if windows.samples is not None:
        return f"one, of {windows.samples} samples of the whole movie"
    return f"{windows.seconds:g} s every {windows.stride:g} s, {model.window_frames} frames each"


def _describe_head(head: HeadConfig) -> str:
    decoder = head.decoder
    shape = (
        f"S4 decoder with {decoder.n_layers} blocks, d_model {decoder.d_model}, d_state {decoder.d_state}, "
        f"up to {decoder.l_max} tokens of {decoder.d_input} features"
    )
    if head.task == "regression":
        return f"regression; {shape}"
    more = f" and {len(head.labels) - _MOST_LABELS} more" if len(head.labels) > _MOST_LABELS else ""
    return f"{', '.join(head.labels[:_MOST_LABELS])}{more}; {shape}"
