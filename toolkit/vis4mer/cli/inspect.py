"""`vis4mer inspect`: describes a checkpoint or a bundle."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vis4mer.cli.options import json_option
from vis4mer.cli.rows import print_row
from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing
from vis4mer.errors import CheckpointError

if TYPE_CHECKING:
    from vis4mer.runtime.bundle import Bundle

_MOST_LABELS = 12
# Width of the column of names for a checkpoint, whose heads may be known only after it has been loaded.
_NAME_WIDTH = 15
_SHA256 = re.compile(r"[0-9a-f]{64}")


@click.command(short_help="Describe a checkpoint or a bundle.")
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def inspect(path: Path, as_json: bool) -> None:
    """Describe the checkpoint or bundle at PATH.

    A bundle's files are checked against its manifest; a checkpoint is loaded, which needs vis4mer[torch].
    """
    from vis4mer.runtime.model_path import is_bundle

    if as_json:
        values = _bundle_values(path) if is_bundle(path) else _checkpoint_values(path)
        click.echo(json.dumps(values, indent=2, default=lambda interface: interface.to_dict()))
    elif is_bundle(path):
        _print_bundle(path)
    else:
        _print_checkpoint(path)


def _print_bundle(path: Path) -> None:
    """Prints the manifest's content at once, and then checks the files, which may take seconds."""
    from vis4mer.runtime.bundle import Bundle

    bundle = Bundle.open(path)
    lead = [
        ("path", str(path)),
        ("kind", f"bundle, {bundle.format}, {bundle.precision}"),
        *_lead_rows(bundle.model),
        ("size", _describe_sizes({name: file.bytes for name, file in bundle.files.items()})),
        *_warning_rows(bundle),
    ]
    facts = _bundle_facts(bundle)
    rest = [*_model_rows(bundle.model), *_fact_rows(facts)]
    width = max(len(name) for name, _ in (*lead, *rest))
    _print_rows(lead, width)
    bundle.verify()
    _print_rows(rest, width)


def _print_checkpoint(path: Path) -> None:
    """Prints what a checkpoint's configuration holds at once, and then loads the weights, which takes seconds."""
    lead = [("path", str(path)), ("kind", _kind_of_checkpoint(path))]
    model = _read_config(path)
    if model is not None:
        lead += _lead_rows(model)
    width = max(_NAME_WIDTH, *(len(name) for name, _ in lead))
    _print_rows(lead, width)
    loaded, parameters = _load_checkpoint(path)
    if model is None:
        _print_rows(_lead_rows(loaded), width)
    size = ", ".join(f"{name} {count:,}" for name, count in parameters.items())
    _print_rows([("parameters", f"{sum(parameters.values()):,}: {size}"), *_model_rows(loaded)], width)


def _print_rows(rows: Iterable[tuple[str, str]], width: int) -> None:
    for name, value in rows:
        print_row(name, value, width)


def _bundle_values(path: Path) -> dict[str, Any]:
    from vis4mer.runtime.bundle import Bundle

    bundle = Bundle.open(path)
    bundle.verify()
    first = {"path": str(path), "kind": "bundle", "format": bundle.format, "precision": bundle.precision}
    return {**first, **_bundle_facts(bundle), "extra_files": bundle.extra_files, "model": bundle.model.to_dict()}


def _checkpoint_values(path: Path) -> dict[str, Any]:
    model, parameters = _load_checkpoint(path)
    kind = _kind_of_checkpoint(path)
    return {"path": str(path), "kind": kind, "parameters": parameters, "model": model.to_dict()}


def _bundle_facts(bundle: "Bundle") -> dict[str, Any]:
    return {
        "digest": bundle.digest,
        "interface": dict(bundle.interface),
        "files": {name: {"sha256": file.sha256, "bytes": file.bytes} for name, file in bundle.files.items()},
        "tools": dict(bundle.tools),
        "parity": dict(bundle.parity),
        "lowering": dict(bundle.lowering),
    }


def _warning_rows(bundle: "Bundle") -> Iterator[tuple[str, str]]:
    """Yields a row for each fact that limits the trust in a bundle."""
    for graph, reason in bundle.not_executed.items():
        yield "not executed", f"{graph} did not run as written on the machine that exported it: {reason}"
    for name in bundle.extra_files:
        yield "not part of it", name
    if bundle.digest is None:
        yield "not covered", "the manifest has no digest of its own before schema 3; export the bundle again"


def _kind_of_checkpoint(path: Path) -> str:
    return "checkpoint" if path.is_dir() else "state dict of the published ViS4mer"


def _read_config(path: Path) -> ModelConfig | None:
    """Reads a checkpoint folder's configuration without PyTorch; None if loading the checkpoint has to report why."""
    from vis4mer.models.config_file import read_config

    try:
        return read_config(path)
    except CheckpointError:
        return None


def _load_checkpoint(path: Path) -> tuple[ModelConfig, dict[str, int]]:
    """Loads a checkpoint; returns its configuration and the number of parameters of each part."""
    from vis4mer.runtime.loading import load_model

    model = load_model(path)
    parts = {"encoder": model.encoder, **model.heads}
    parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items() if part is not None}
    return model.config, parameters


def _lead_rows(model: ModelConfig) -> list[tuple[str, str]]:
    """Returns what matters to a user of the model: its labels, its windows, and the frames that it takes."""
    rows = [(f"head {name}", _describe_answers(head)) for name, head in model.heads.items()]
    if model.encoder is None:
        return [*rows, ("encoder", "none: the heads take features")]
    return [*rows, ("windows", _describe_windows(model)), ("frames", _describe_frames(model.preprocessing))]


def _describe_sizes(sizes: Mapping[str, int]) -> str:
    files = ", ".join(f"{name} {size / 1e6:.2f}" for name, size in sizes.items())
    return f"{sum(sizes.values()) / 1e6:.2f} MB: {files}"


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
    decoders = [(f"decoder {name}", _describe_decoder(head.decoder)) for name, head in model.heads.items()]
    if model.encoder is None:
        return decoders
    return [
        ("encoder", _describe_encoder(model.encoder)),
        ("normalised", f"mean {_in_words(model.preprocessing.mean)}, std {_in_words(model.preprocessing.std)}"),
        *decoders,
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


def _describe_answers(head: HeadConfig) -> str:
    if head.task == "regression":
        return "regression"
    more = f" and {len(head.labels) - _MOST_LABELS} more" if len(head.labels) > _MOST_LABELS else ""
    return f"{', '.join(head.labels[:_MOST_LABELS])}{more}"


def _describe_decoder(decoder: DecoderConfig) -> str:
    return (
        f"S4 decoder with {decoder.n_layers} blocks, d_model {decoder.d_model}, d_state {decoder.d_state}, "
        f"up to {decoder.l_max} tokens of {decoder.d_input} features"
    )
