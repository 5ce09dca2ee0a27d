"""A bundle's ``manifest.json``: reading, checking and writing it."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from vis4mer.config import ModelConfig
from vis4mer.errors import BundleError, ConfigError
from vis4mer.runtime.backends import registry
from vis4mer.runtime.interface import ENCODER, GraphInterface, graph_interfaces

Precision = Literal["fp32", "fp16", "bf16"]

MANIFEST = "manifest.json"

# Schema 2 added the interface of each graph, schema 3 the digest over the manifest itself.
SCHEMA_VERSION = 3
_READABLE_VERSIONS = (1, 2, 3)
_DIGEST = "digest"

# Detached signatures of the manifest, which come into the folder after the export: minisign's, a plain one, Sigstore's.
_SIGNATURES = tuple(f"{MANIFEST}{suffix}" for suffix in (".minisig", ".sig", ".sigstore.json"))

# Slashes and a leading dot are excluded, so that no name leads out of the folder or is hidden.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# A manifest is read whole before its content can be trusted, so its size has a limit.
_MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class FileRecord:
    """What the manifest records about one file.

    Attributes:
        sha256: Digest of the content, in hexadecimal.
        bytes: Size of the file.
    """

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """The content of a manifest.

    Attributes:
        format: Format of the graphs; decides which backend runs them.
        precision: Precision of the graphs' matrix products.
        model: Everything needed to replay the model on a movie.
        interface: Inputs and outputs of each graph, by graph name.
        files: Records of the bundle's files by name.
        tools: Version of each tool that took part in the export.
        parity: Distance of each graph's outputs from the checkpoint's, as measured by the export.
        lowering: How each head computes its long convolutions.
        digest: SHA-256 of the manifest's other entries; None for a manifest of schema 1 or 2, which nothing covers.
    """

    format: str
    precision: Precision
    model: ModelConfig
    interface: Mapping[str, GraphInterface]
    files: Mapping[str, FileRecord]
    tools: Mapping[str, Any]
    parity: Mapping[str, Any]
    lowering: Mapping[str, Any]
    digest: str | None = field(default=None, kw_only=True)


def read_manifest(directory: Path) -> Manifest:
    """Reads and checks the manifest of the bundle at `directory`.

    Raises:
        BundleError: There is no manifest, it does not match its digest, or it breaks the schema.
    """
    values = _read_json(directory / MANIFEST)
    try:
        model = _model(values["model"])
        return Manifest(
            # Looking the backend up rejects a format that nothing here can run.
            format=registry.backend(values["format"]).format,
            precision=_precision(values["precision"]),
            model=model,
            interface=_interfaces(values, model),
            files={name: _file_record(name, item) for name, item in _object(values, "files").items()},
            tools=_object(values, "tools"),
            parity=_object(values, "parity"),
            lowering=_object(values, "lowering"),
            digest=values.get(_DIGEST),
        )
    except KeyError as error:
        raise BundleError.of("bundle", directory, f"the manifest lacks {error}", "export it again") from None
    except ConfigError as error:
        raise BundleError.of("bundle", directory, str(error)) from None


def write_manifest(manifest: Manifest, directory: Path) -> None:
    """Writes a manifest into `directory`, with its digest.

    Raises:
        OSError: The file cannot be written.
    """
    values = {
        "schema_version": SCHEMA_VERSION,
        "format": manifest.format,
        "precision": manifest.precision,
        "model": manifest.model.to_dict(),
        "interface": {graph: interface.to_dict() for graph, interface in manifest.interface.items()},
        "files": {name: dataclasses.asdict(record) for name, record in manifest.files.items()},
        "tools": dict(manifest.tools),
        "parity": dict(manifest.parity),
        "lowering": dict(manifest.lowering),
    }
    # Python would write NaN and Infinity, which are not JSON, and other readers would reject the file. The digest has
    # to be that of the entries as they will be read, in which a number used as a key has become text, for example.
    values = json.loads(json.dumps(values, allow_nan=False))
    values[_DIGEST] = manifest_digest(values)
    (directory / MANIFEST).write_text(json.dumps(values, indent=2) + "\n", "utf-8")


def manifest_digest(values: Mapping[str, Any]) -> str:
    """Returns the SHA-256, in hexadecimal, of a manifest's entries other than ``digest``.

    It covers their content and not the file's bytes, so that another indentation or order of keys does not change it:
    the digest is that of the entries as JSON in UTF-8, with sorted keys and without spaces.

    Args:
        values: Entries of the manifest, as JSON reads them.
    """
    covered = {key: value for key, value in values.items() if key != _DIGEST}
    canonical = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # JSON may hold half a surrogate pair, which UTF-8 cannot encode: such a manifest has to fail by its digest, or by
    # the rule that it breaks, and not by an exception here.
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def graph_names(model: ModelConfig) -> tuple[str, ...]:
    """Returns the names of the graphs that a model consists of: ``encoder``, if it has one, and every head."""
    return (*(() if model.encoder is None else (ENCODER,)), *model.heads)


def extra_files(directory: Path, listed: Collection[str]) -> tuple[str, ...]:
    """Returns the names in a bundle's folder that its manifest does not list, in order; signatures of it are left out.

    Args:
        directory: Folder of the bundle.
        listed: Names of the files that the manifest lists.

    Raises:
        OSError: The folder cannot be listed.
    """
    known = {MANIFEST, *_SIGNATURES, *listed}
    return tuple(sorted(path.name for path in directory.iterdir() if path.name not in known))


def require_file_name(name: str) -> None:
    """Checks the name of a file of a bundle.

    Raises:
        ConfigError: The name is the manifest's, or would lie outside the bundle's folder.
    """
    if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
        rule = "must be a plain name of letters, digits, '.', '_' and '-': a bundle's files lie directly in it"
        raise ConfigError.of("file", name, rule)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        # Checked before opening: reading a FIFO would block.
        if not path.is_file():
            rule = f"holds no {MANIFEST}; a bundle is a folder written by `vis4mer export`"
            raise BundleError.of("bundle", path.parent, rule)
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise BundleError.of("file", path, f"cannot be read: {error.strerror}") from None
    if len(text) > _MAX_BYTES:
        raise BundleError.of("file", path, f"must be at most {_MAX_BYTES >> 20} MiB, as every manifest is")
    try:
        # Malformed JSON and invalid UTF-8 both raise a ValueError; deep nesting raises RecursionError.
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise BundleError.of("file", path, "is not a JSON object", "export the bundle again")
    version = values.get("schema_version")
    # True and 1.0 equal 1 in Python, but they are no version.
    if type(version) is not int or version not in _READABLE_VERSIONS:
        known = ", ".join(map(str, _READABLE_VERSIONS))
        rule = f"this version of vis4mer reads schema_version {known}"
        problem = ConfigError.of("schema_version", version, rule, "export it again, or update vis4mer")
        raise BundleError.of("file", path, str(problem))
    _require_digest(path, values)
    return values


def _require_digest(path: Path, values: Mapping[str, Any]) -> None:
    # A digest is checked wherever there is one: changing the version alone does not switch the check off.
    if values["schema_version"] < 3 and _DIGEST not in values:
        return
    try:
        digest = manifest_digest(values)
    except RecursionError:  # nested too deeply to be written again
        digest = ""
    if values.get(_DIGEST) != digest:
        rule = "its content does not match its own digest, so it was altered after the export"
        raise BundleError.of("file", path, rule, "copy the bundle again, or export it again")


def _interfaces(values: Mapping[str, Any], model: ModelConfig) -> dict[str, GraphInterface]:
    if values["schema_version"] == 1:
        return _interfaces_of_schema_1(_object(values, "lowering"), model)
    interfaces = {}
    stated = _object(values, "interface")
    for graph in graph_names(model):
        if graph not in stated:
            raise ConfigError.of("graph", graph, "the manifest states no interface of it", "export the bundle again")
        try:
            interfaces[graph] = GraphInterface.from_dict(stated[graph])
        except ConfigError as error:
            raise ConfigError.of("graph", graph, str(error)) from None
        _require_derived(graph, interfaces[graph], model)
    return interfaces


def _require_derived(graph: str, stated: GraphInterface, model: ModelConfig) -> None:
    """Checks that a stated interface is the one that follows from the model, whose labels and windows it must fit."""
    axes = stated.input.axes
    # Without an encoder there are no windows, so that a head may have been exported for a length L of its own.
    length = axes[1] if model.encoder is None and len(axes) == 3 and isinstance(axes[1], int) else None
    derived = graph_interfaces(model, length)[graph]
    if stated != derived:
        rule = f"the manifest states the interface {stated}, but its model has {derived}"
        raise ConfigError.of("graph", graph, rule, "export the bundle again")


def _interfaces_of_schema_1(lowering: Mapping[str, Any], model: ModelConfig) -> dict[str, GraphInterface]:
    """Derives what schema 1 left unsaid: all its graphs have the names and types that exports still use.

    A model without encoder may have been exported for a length of its own, which is recorded with the lowerings.
    """
    interfaces = graph_interfaces(model)
    for head in model.heads:
        record = lowering.get(head)
        # Nothing has checked the form of a lowering's record, so anything but a plain integer is ignored. JSON's true
        # would pass isinstance(..., int), because bool is a subclass of int.
        if isinstance(record, dict) and type(record.get("length")) is int:
            interfaces[head] = graph_interfaces(model, record["length"])[head]
    return interfaces


def _object(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(value := values[name], dict):
        raise ConfigError.of(name, value, "must be a JSON object", "export the bundle again")
    return value


def _model(value: Any) -> ModelConfig:
    try:
        return ModelConfig.from_dict(value)
    except ConfigError as error:
        raise ConfigError(f"the manifest's model is invalid: {error}") from None


def _precision(value: Any) -> Precision:
    for known in get_args(Precision):
        if value == known:
            return known  # type: ignore[no-any-return]
    raise ConfigError.of("precision", value, f"must be one of {', '.join(get_args(Precision))}")


def _file_record(name: str, value: Any) -> FileRecord:
    require_file_name(name)
    record = value if isinstance(value, dict) else {}
    sha256, size = record.get("sha256"), record.get("bytes")
    # JSON's true would pass isinstance(..., int) too, because bool is a subclass of int.
    if not (isinstance(sha256, str) and _SHA256.fullmatch(sha256) and type(size) is int and size >= 0):
        raise ConfigError.of("file", name, "the manifest's digest or size is malformed", "export the bundle again")
    return FileRecord(sha256, size)
