"""A bundle: a folder of exported graphs and the ``manifest.json`` that describes them.

Exported graphs are programs, so a backend receives their bytes only after the digest has matched the manifest's.
"""

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vis4mer.config import ModelConfig
from vis4mer.devices.device import Device
from vis4mer.errors import BundleError, ConfigError
from vis4mer.files import staging_path, write_failure
from vis4mer.runtime.backends import registry
from vis4mer.runtime.backends.base import Graph, Runner
from vis4mer.runtime.interface import GraphInterface, graph_interfaces
from vis4mer.runtime.manifest import (
    FileRecord,
    Manifest,
    Precision,
    extra_files,
    graph_names,
    read_manifest,
    require_file_name,
    write_manifest,
)
from vis4mer.runtime.output_folder import OutputFolder, flush_to_disk

# Keys of a graph's parity report in the manifest: what ran in place of a graph that the exporting machine cannot run as
# it was written, and why it cannot.
RAN, REASON = "ran", "reason"


@dataclass(frozen=True)
class Bundle(Manifest):
    """An opened bundle: its manifest, read and checked, and the folder with its graphs, which are read on demand.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Reads and checks the manifest of the bundle at `path`; no graph is read yet.

        Raises:
            BundleError: There is no manifest, it does not match its digest, or it breaks the schema.
        """
        directory = Path(path)
        manifest = read_manifest(directory)
        values = {f.name: getattr(manifest, f.name) for f in dataclasses.fields(manifest)}
        bundle = cls(path=directory, **values)
        # A graph without its file is reported now, not when the graph is first needed.
        for graph in bundle.graphs:
            bundle.file_of(graph)
        return bundle

    @property
    def graphs(self) -> tuple[str, ...]:
        """Names of the graphs that the model needs: ``encoder``, if it has one, and every head."""
        return graph_names(self.model)

    @property
    def not_executed(self) -> dict[str, str]:
        """Graphs that their export did not run in the form in which it wrote them, and the reason for each."""
        reports = ((graph, self.parity.get(graph)) for graph in self.graphs)
        # Nothing has checked the form of these reports.
        return {
            graph: str(report.get(REASON, "its export states no reason"))
            for graph, report in reports
            if isinstance(report, Mapping) and RAN in report
        }

    def file_of(self, graph: str) -> str:
        """Returns the name of the one file that holds `graph`: ``<graph>.<suffix>``.

        Raises:
            BundleError: No file, or more than one, has such a name.
        """
        # A companion such as encoder.onnx.data does not match: without its last suffix it is named encoder.onnx.
        names = [name for name in self.files if name.rpartition(".")[0] == graph]
        if len(names) != 1:
            rule = f"the manifest must list exactly one file {graph}.*, but lists {names}"
            raise BundleError.of("bundle", self.path, rule, "export it again")
        return names[0]

    def read_graph(self, graph: str) -> Graph:
        """Reads a graph, whose digests are checked first, and the files that belong to it: ``<graph>.<suffix>.*``.

        Raises:
            BundleError: A file is missing or altered.
        """
        file = self.file_of(graph)
        companions = {name: self.read(name) for name in self.files if name.startswith(f"{file}.")}
        return Graph(graph, self.interface[graph], self.read(file), companions)

    def open_graph(self, graph: str, device: Device) -> Runner:
        """Loads a graph, whose digests are checked first.

        Args:
            graph: ``encoder`` or a head's name.
            device: Device to run on.

        Raises:
            BundleError: A file is missing or altered, or the backend cannot load it.
            DeviceError: The device is absent, or not the one the graph was built for.
            MissingDependencyError: The backend is not installed.
        """
        return registry.open_with(registry.backend(self.format), self.read_graph(graph), device)

    def read(self, name: str) -> bytes:
        """Returns the content of the file `name`, once its digest has been checked.

        Raises:
            BundleError: The file is missing, unreadable, not listed, or does not match the manifest's digest.
        """
        if name not in self.files:
            raise BundleError.of("bundle", self.path, f"the manifest lists no file {name!r}")
        path, record = self.path / name, self.files[name]
        try:
            if not path.is_file():  # checked before opening: reading a FIFO would block
                raise BundleError.of("file", path, "is missing", "copy the whole bundle, or export it again")
            # A file of the wrong size is rejected without being read into memory, however large it is.
            size = path.stat().st_size
            data = path.read_bytes() if size == record.bytes else b""
        except OSError as error:
            raise BundleError.of("file", path, f"cannot be read: {error.strerror}") from None
        if size != record.bytes:
            rule = f"has {size} bytes, but the manifest states {record.bytes}"
            raise BundleError.of("file", path, rule, "copy the bundle again")
        # The bytes that are hashed are the bytes that are returned. Reading the file a second time would let a file
        # that changes in between escape the check.
        if (digest := hashlib.sha256(data).hexdigest()) != record.sha256:
            rule = f"has sha256 {digest[:12]}..., but the manifest states {record.sha256[:12]}..."
            raise BundleError.of("file", path, rule, "copy the bundle again")
        return data

    @property
    def extra_files(self) -> tuple[str, ...]:
        """Names in the folder that are not part of the bundle, in order; nothing reads them.

        Raises:
            BundleError: The folder cannot be listed.
        """
        try:
            return extra_files(self.path, self.files)
        except OSError as error:
            raise BundleError.of("bundle", self.path, f"cannot be listed: {error.strerror}") from None

    def verify(self) -> None:
        """Checks the digest of every file.

        Raises:
            BundleError: A file is missing or altered; the first such file is named.
        """
        for name in self.files:
            self.read(name)


class BundleWriter:
    """Writes a bundle so that its folder appears complete or not at all.

    Files are written to a folder beside the output, which `commit` flushes to disk and renames::

        with BundleWriter(output) as writer:
            writer.path("encoder.onnx").write_bytes(data)
            bundle = writer.commit(format="onnx", precision="fp32", model=config)

    Leaving the block without `commit` leaves whatever is at the output unchanged.

    Args:
        output: Folder to write; its parents are created if they are missing.
        force: Whether a bundle that is there is replaced.

    Raises:
        BundleError: The output exists and is not a bundle, or one that is not to be replaced, or cannot be written.
    """

    def __init__(self, output: str | os.PathLike[str], *, force: bool = False) -> None:
        self._output = OutputFolder(output, replace=force)

    def __enter__(self) -> Self:
        path = self._output.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._staging = staging_path(path)
            self._staging.mkdir()
        except OSError as error:
            raise BundleError.of("output", path, *write_failure(error)) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # After a commit the folder has moved away, so there is nothing left to remove.
        shutil.rmtree(self._staging, ignore_errors=True)

    def path(self, name: str) -> Path:
        """Returns the path at which to write the file `name`, such as ``encoder.onnx``, before `commit`.

        Raises:
            BundleError: The name is the manifest's, or not a plain file name.
        """
        try:
            require_file_name(name)
        except ConfigError as error:
            raise BundleError(str(error)) from None
        return self._staging / name

    def commit(
        self,
        *,
        format: str,
        precision: Precision,
        model: ModelConfig,
        interface: Mapping[str, GraphInterface] | None = None,
        tools: Mapping[str, Any] | None = None,
        parity: Mapping[str, Any] | None = None,
        lowering: Mapping[str, Any] | None = None,
    ) -> Bundle:
        """Writes the manifest over all files written so far and moves the folder into place.

        The arguments are the attributes of `Manifest`; `interface` is derived from `model` by default.

        Returns:
            The bundle, opened from its final place.

        Raises:
            BundleError: A graph of `model` has no file, the folder cannot be written, or another export has written
                it in the meantime.
        """
        manifest = Manifest(
            format=format,
            precision=precision,
            model=model,
            interface=graph_interfaces(model) if interface is None else interface,
            files={path.name: _record(path) for path in sorted(self._staging.iterdir())},
            tools=tools or {},
            parity=parity or {},
            lowering=lowering or {},
        )
        try:
            write_manifest(manifest, self._staging)
            # Opening the finished folder rejects an invalid manifest or a missing graph while the old bundle is intact.
            Bundle.open(self._staging)
            # The contents reach the disk before the rename: otherwise a power failure could leave the final name with
            # empty files under it.
            for path in (*self._staging.iterdir(), self._staging):
                flush_to_disk(path)
            self._output.place(self._staging)
        except OSError as error:
            raise BundleError.of("output", self._output.path, *write_failure(error)) from None
        return Bundle.open(self._output.path)


def _record(path: Path) -> FileRecord:
    with path.open("rb") as file:
        return FileRecord(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)
