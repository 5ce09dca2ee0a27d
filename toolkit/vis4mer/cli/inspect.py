"""`vis4mer inspect`: what a checkpoint or a bundle is."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vis4mer.config import HeadConfig, ModelConfig
from vis4mer.text import printable

if TYPE_CHECKING:
    from vis4mer.runtime.bundle import Bundle

_MOST_LABELS = 12


@click.command(short_help="Say what a checkpoint or a bundle is.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything as a JSON object.")
def inspect(path: Path, as_json: bool) -> None:
    """Print what the checkpoint or bundle at PATH is.

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
        click.echo(json.dumps({"path": str(path), **facts, "model": model.to_dict()}, indent=2))
        return
    rows = [("path", str(path)), *_spell_out(facts), *_describe(model)]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {printable(value)}")


def _bundle_facts(bundle: "Bundle") -> dict[str, Any]:
    return {
        "kind": "bundle",
        "format": bundle.format,
        "precision": bundle.precision,
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


def _spell_out(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """One row for each fact, and one for each entry of a fact that has several."""
    for name, value in facts.items():
        entries = value if isinstance(value, dict) else {"": value}
        for key, entry in entries.items():
            for part, words in _parts(entry):
                if words:
                    yield f"{name} {key} {part}".strip(), words


def _parts(entry: Any) -> Iterator[tuple[str, str]]:
    """An entry in words; the objects of a list within it, such as a head's blocks, each apart and under its number."""
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
    """A value on one line: of nested objects the leaves that are not empty, and of a digest its beginning."""
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
    return f"{text[:12]}..." if len(text) == 64 else text


def _describe(model: ModelConfig) -> list[tuple[str, str]]:
    frames, windows, encoder = model.preprocessing, model.windows, model.encoder
    normalised = f"mean {_in_words(frames.mean)}, std {_in_words(frames.std)}"
    taken = f"{frames.fps:g}/s" if frames.segments is None else f"{frames.segments} segments"
    taken += " and the last" if frames.last_frame else ""
    cut = f"{windows.seconds:g} s every {windows.stride:g} s, {model.window_frames} frames each"
    if windows.samples is not None:
        cut = f"one of {windows.samples} samples of the whole movie"
    rows = [
        ("encoder", "none: decoders only, which take features"),
        ("frames", f"{taken}, {frames.height} x {frames.width}, {frames.resize}, {frames.interpolation}"),
        ("normalised", normalised),
        ("windows", cut),
    ]
    if encoder is not None:
        span = "a frame" if encoder.frames == 1 else f"per {encoder.frames} frames"
        rows[0] = ("encoder", f"{encoder.name}, {encoder.tokens} tokens of {encoder.features} features {span}")
    else:
        rows = rows[:1]
    return rows + [(f"head {name}", _describe_head(head)) for name, head in model.heads.items()]


def _describe_head(head: HeadConfig) -> str:
    decoder = head.decoder
    shape = (
        f"S4 decoder of {decoder.n_layers} blocks from d_model {decoder.d_model}, d_state {decoder.d_state}, "
        f"up to {decoder.l_max} tokens of {decoder.d_input} features"
    )
    if head.task == "regression":
        return f"regression; {shape}"
    more = f" and {len(head.labels) - _MOST_LABELS} more" if len(head.labels) > _MOST_LABELS else ""
    return f"{', '.join(head.labels[:_MOST_LABELS])}{more}; {shape}"
