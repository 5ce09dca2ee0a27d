"""A bundle: a directory of exported graphs and the ``manifest.json`` that says what they are.

Exported graphs are programs, so none of their bytes reaches a backend before their digest matched the manifest's.
"""

import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

from vis4mer.config import ModelConfig
from vis4mer.errors import BundleError, ConfigError
from vis4mer.files import staging_path

Format = Literal["torchscript", "pt2", "onnx", "trt", "trt-rtx"]
Precision = Literal["fp32", "fp16", "bf16"]

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
ENCODER = "encoder"

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_MANIFEST_BYTES = 16 << 20


@dataclass(frozen=True)
class FileRecord:
    """What the manifest says of one file: its hexadecimal SHA-256 and its size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its manifest, read and checked; its graphs, still on disk.

    Attributes:
        path: of the directory.
        format: of its graphs; decides which runner executes them.
        precision: in which the graphs compute.
        model: everything needed to replay the model on a movie.
        files: by name; every one lies directly in the directory.
        tools: version of each tool that took part in the export.
        parity: how far each graph's outputs are from the checkpoint's, as measured by the export.
        lowering: how each head computes its long convolutions.
    """

    path: Path
    format: Format
    precision: Precision
    model: ModelConfig
    files: Mapping[str, FileRecord]
    tools: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    lowering: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Reads and checks the manifest of the bundle at `path`; no graph is read yet.

        Raises:
            BundleError: there is no manifest, or it is not one of this schema.
        """
        directory = Path(path)
        values = _read_manifest(directory)
        try:
            fields = {f.name: values[f.name] for f in dataclasses.fields(cls) if f.name != "path"}
            fields["model"] = ModelConfig.from_dict(fields["model"])
        except KeyError as error:
            raise BundleError(f"bundle={str(directory)!r}: the manifest lacks {error}; export it again") from None
        except ConfigError as error:
            raise BundleError(f"bundle={str(directory)!r}: the manifest's model is invalid: {error}") from None
        for name in ("files", "tools", "parity", "lowering"):
            _object(fields[name])
        fields["files"] = {name: _file_record(directory, name, item) for name, item in fields["files"].items()}
        bundle = cls(path=directory, **fields)
        bundle._check()
        return bundle

    def _check(self) -> None:
        for name, value, known in (
            ("format", self.format, get_args(Format)),
            ("precision", self.precision, get_args(Precision)),
        ):
            if value not in known:
                raise BundleError(f"bundle={str(self.path)!r}: {name}={value!r} must be one of {', '.join(known)}")
        for graph in self.graphs:
            self.file_of(graph)

    @property
    def graphs(self) -> tuple[str, ...]:
        """Names of the graphs the model needs: ``encoder`` where it has one, and every head."""
        return (*(() if self.model.encoder is None else (ENCODER,)), *self.model.heads)

    def file_of(self, graph: str) -> str:
        """Name of the one file that holds `graph`: ``<graph>.<suffix>``.

        Raises:
            BundleError: no file, or more than one, has that name.
        """
        names = [name for name in self.files if name.rpartition(".")[0] == graph]
        if len(names) != 1:
            rule = f"the manifest must list exactly one file {graph}.*, but lists {names}; export it again"
            raise BundleError(f"bundle={str(self.path)!r}: {rule}")
        return names[0]

    def read(self, name: str) -> bytes:
        """The bytes of file `name`, handed out only if they are the exported ones.

        Raises:
            BundleError: the file is missing, unreadable, not listed, or not what the manifest's digest says.
        """
        if name not in self.files:
            raise BundleError(f"bundle={str(self.path)!r}: the manifest lists no file {name!r}")
        path, record = self.path / name, self.files[name]
        try:
            if not path.is_file():  # before opening: reading a FIFO would block
                raise BundleError(f"file={str(path)!r}: is missing; copy the whole bundle, or export it again")
            size = path.stat().st_size
            data = path.read_bytes() if size == record.bytes else b""
        except OSError as error:
            raise BundleError(f"file={str(path)!r}: cannot be read: {error.strerror}") from None
        if size != record.bytes:
            rule = f"has {size} bytes where the manifest says {record.bytes}; copy the bundle again"
            raise BundleError(f"file={str(path)!r}: {rule}")
        if (digest := hashlib.sha256(data).hexdigest()) != record.sha256:
            rule = f"has sha256 {digest[:12]}... where the manifest says {record.sha256[:12]}...; copy the bundle again"
            raise BundleError(f"file={str(path)!r}: {rule}")
        return data

    def verify(self) -> None:
        """Checks the digest of every file.

        Raises:
            BundleError: for the first file that is not the exported one.
        """
        for name in self.files:
            self.read(name)


class BundleWriter:
    """Writes a bundle so that its directory appears complete or not at all.

    Files are written to a directory beside the target, which `commit` flushes to disk and renames::

        with BundleWriter(output) as writer:
            writer.path("encoder.onnx").write_bytes(data)
            bundle = writer.commit(format="onnx", precision="fp32", model=config)

    An older bundle at the target is replaced; leaving the block without `commit` leaves it as it was.

    Args:
        output: the directory to write; its parent is created where missing.

    Raises:
        BundleError: the target exists and is not a bundle, or cannot be written.
    """

    def __init__(self, output: str | os.PathLike[str]) -> None:
        self._target = Path(os.path.abspath(output))  # noqa: PTH100 - resolve() would replace a link's target
        self._refuse_foreign_target()

    def __enter__(self) -> Self:
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._staging = staging_path(self._target)
            self._staging.mkdir()
        except OSError as error:
            raise BundleError(f"output={str(self._target)!r}: cannot be written: {error.strerror}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shutil.rmtree(self._staging, ignore_errors=True)

    def path(self, name: str) -> Path:
        """Where to write file `name`, such as ``encoder.onnx``, before `commit`.

        Raises:
            BundleError: the name is the manifest's, or not a plain file name.
        """
        _require_plain_name(self._target, name)
        return self._staging / name

    def commit(
        self,
        *,
        format: Format,
        precision: Precision,
        model: ModelConfig,
        tools: Mapping[str, Any] | None = None,
        parity: Mapping[str, Any] | None = None,
        lowering: Mapping[str, Any] | None = None,
    ) -> Bundle:
        """Writes the manifest over all files written so far and moves the directory to its place.

        The arguments are the `Bundle`'s attributes of the same names.

        Returns:
            The bundle, opened from its final place.

        Raises:
            BundleError: a graph of `model` has no file, or the directory cannot be written.
        """
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "format": format,
            "precision": precision,
            "model": model.to_dict(),
            "files": {path.name: dataclasses.asdict(_record(path)) for path in sorted(self._staging.iterdir())},
            "tools": dict(tools or {}),
            "parity": dict(parity or {}),
            "lowering": dict(lowering or {}),
        }
        try:
            (self._staging / MANIFEST).write_text(json.dumps(manifest, indent=2, allow_nan=False) + "\n", "utf-8")
            Bundle.open(self._staging)
            for path in (*self._staging.iterdir(), self._staging):
                _flush_to_disk(path)
            self._move_into_place()
        except OSError as error:
            raise BundleError(f"output={str(self._target)!r}: cannot be written: {error.strerror}") from None
        return Bundle.open(self._target)

    def _move_into_place(self) -> None:
        self._refuse_foreign_target()
        if not self._target.exists():
            self._staging.rename(self._target)
        else:
            # Not a staging name, which the next export would sweep: between the two renames it is the only copy.
            old = self._target.with_name(f".{self._target.name}.replaced-{self._staging.suffix[1:]}")
            self._target.rename(old)
            try:
                self._staging.rename(self._target)
            except BaseException:
                old.rename(self._target)
                raise
            shutil.rmtree(old, ignore_errors=True)
        _flush_to_disk(self._target.parent)

    def _refuse_foreign_target(self) -> None:
        """Nothing but an empty directory or a bundle is ever replaced: the user may have mistyped a path."""
        if not (self._target.exists() or self._target.is_symlink()):
            return
        rule = "is not a bundle and will not be overwritten; name a new directory"
        if self._target.is_symlink() or not self._target.is_dir():
            raise BundleError(f"output={str(self._target)!r}: {rule}")
        if names := {path.name for path in self._target.iterdir()}:
            if MANIFEST not in names:
                raise BundleError(f"output={str(self._target)!r}: {rule}")
            if foreign := sorted(names - {MANIFEST, *Bundle.open(self._target).files}):
                rule = f"holds {foreign[0]!r}, which is no part of the bundle and would be lost; move it away"
                raise BundleError(f"output={str(self._target)!r}: {rule}")


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        if not path.is_file():
            rule = f"holds no {MANIFEST}; a bundle is a directory written by `vis4mer export`"
            raise BundleError(f"bundle={str(directory)!r}: {rule}")
        with path.open("rb") as file:
            text = file.read(_MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise BundleError(f"file={str(path)!r}: cannot be read: {error.strerror}") from None
    if len(text) > _MAX_MANIFEST_BYTES:
        raise BundleError(f"file={str(path)!r}: is over {_MAX_MANIFEST_BYTES >> 20} MiB, which no manifest is")
    try:
        values = _object(json.loads(text))
    except (ValueError, RecursionError):
        raise BundleError(f"file={str(path)!r}: is not a JSON object; export the bundle again") from None
    if (version := values.get("schema_version")) != SCHEMA_VERSION:
        rule = f"this version of vis4mer reads schema_version {SCHEMA_VERSION}; export it again, or update vis4mer"
        raise BundleError(f"file={str(path)!r}: schema_version={version!r}: {rule}")
    return values


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BundleError(f"manifest: {value!r:.60} must be a JSON object; export the bundle again")
    return value


def _file_record(directory: Path, name: str, value: Any) -> FileRecord:
    _require_plain_name(directory, name)
    record = _object(value)
    sha256, size = record.get("sha256"), record.get("bytes")
    if not (isinstance(sha256, str) and _SHA256.fullmatch(sha256) and isinstance(size, int) and size >= 0):
        raise BundleError(f"bundle={str(directory)!r}: the manifest's digest or size of {name!r} is not one")
    return FileRecord(sha256, size)


def _require_plain_name(directory: Path, name: str) -> None:
    if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
        rule = "must be a plain name of letters, digits, '.', '_' and '-': a bundle's files lie directly in it"
        raise BundleError(f"bundle={str(directory)!r}: file={name!r}: {rule}")


def _record(path: Path) -> FileRecord:
    with path.open("rb") as file:
        return FileRecord(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
