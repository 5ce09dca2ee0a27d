"""The contract of a benchmark: a description, a measurement, a table on stdout, and a JSON file under results/."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.machine import machine
from vis4mer.errors import Vis4merError
from vis4mer.files import check_writable, write_atomically

RESULTS = Path(__file__).parents[1] / "results"

Result = Mapping[str, Any]
"""Fields of a result file; ``rows`` holds the table."""


def _no_options(parser: argparse.ArgumentParser) -> None:
    """Adds no options."""


@dataclass(frozen=True)
class Benchmark:
    """One table and the command that measures it.

    Attributes:
        name: Module name within `benchmarks`, which is also the stem of the result file.
        description: Docstring of the module. Its first line summarises the benchmark; the file holds all of it.
        measure: Measures what the options select, shows every row as soon as it is known
            (`benchmarks.harness.progress.show`), and returns the fields of the result beside ``description`` and
            ``machine``. With ``options.tiny`` it does so in less than a minute or two, with small models and inputs.
        add_options: Adds the benchmark's own options to the parser.
        on_gpu: Whether the benchmark has the option ``--device cuda``.
    """

    name: str
    description: str
    measure: Callable[[argparse.Namespace], Result]
    add_options: Callable[[argparse.ArgumentParser], None] = _no_options
    on_gpu: bool = False

    def main(self) -> None:
        """Runs the command line: measures, and writes the result file."""
        options = self._parse()
        gpu = _gpu() if self.on_gpu and options.device == "cuda" else None
        path = options.output or (None if options.tiny else self.path(gpu))
        try:
            if path is not None:
                check_writable(path)  # before the work rather than after it
            measured = self.measure(options)
            if path is not None:
                self._write(path, {"description": self.description, "machine": machine(gpu), **measured})
        except Vis4merError as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            sys.exit(130)

    def path(self, gpu: str | None = None) -> Path:
        """Returns the result file of a run on the CPU, or on the named GPU."""
        return RESULTS / (f"{self.name}-{slug(gpu)}.json" if gpu else f"{self.name}.json")

    def _parse(self) -> argparse.Namespace:
        parser = argparse.ArgumentParser(
            prog=f"python -m benchmarks.{self.name}",
            description=self.description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument(
            "--tiny", action="store_true", help="small models and inputs, as a quick check; writes no file by default"
        )
        parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="result file (default: under results/)")
        if self.on_gpu:
            parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: %(default)s)")
        self.add_options(parser)
        return parser.parse_args()

    def _write(self, path: Path, result: Result) -> None:
        write_atomically(path, (json.dumps(result, indent=2) + "\n").encode())
        print(f"wrote {path}", file=sys.stderr)


def slug(gpu: str) -> str:
    """Returns a GPU's name as it stands in file names."""
    return gpu.replace(" ", "-").lower()


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        sys.exit("error: device='cuda': PyTorch finds no GPU; use --device cpu")
    return torch.cuda.get_device_name()
