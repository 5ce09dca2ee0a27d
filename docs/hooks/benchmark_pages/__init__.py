"""The benchmark pages, made from ``benchmarks/results/*.json`` whenever the site is built.

Every result file belongs to the benchmark whose name it bears; a run on a GPU adds the GPU's name, as in
``attention-nvidia-h100.json``. A page shows all results of its benchmark, each with its machine. A file that belongs
to no benchmark fails the build, so no figure is measured and then forgotten. The runs of all steps on a GPU,
``gpu-*.json``, have a page of their own, which exists without a result too.
"""

import json
from pathlib import Path

from mkdocs.exceptions import PluginError

from benchmark_pages import gpu
from benchmark_pages.accuracy import LONG_RANGE, SAMPLE
from benchmark_pages.model import ATTENTION, DECODER, ENCODER, HEAD, LONGCONV, PAPER_MODEL
from benchmark_pages.movies import FLIGHT, PIPELINE, VIDEO
from benchmark_pages.page import Benchmark, facts, rows_table

__all__ = ["BENCHMARKS", "pages"]

BENCHMARKS = (PIPELINE, ENCODER, DECODER, ATTENTION, HEAD, LONGCONV, PAPER_MODEL, VIDEO, FLIGHT, SAMPLE, LONG_RANGE)


def pages(results: Path) -> dict[str, str]:
    """Returns the Markdown of every benchmark page, and of the index, by file name.

    Args:
        results: Folder of the result files.

    Raises:
        PluginError: A benchmark has no result, or a result file belongs to no benchmark.
    """
    files: dict[str, list[Path]] = {gpu.NAME: [], **{benchmark.name: [] for benchmark in BENCHMARKS}}
    # By the stem, because it places the run on a CPU, which has no suffix, before those on GPUs.
    for path in sorted(results.glob("*.json"), key=lambda path: path.stem):
        files[_benchmark_of(path)].append(path)
    texts = {}
    for benchmark in BENCHMARKS:
        if not files[benchmark.name]:
            raise PluginError(f"{results}: holds no {benchmark.name}*.json for the page '{benchmark.title}'")
        texts[benchmark.page] = _page(benchmark, files[benchmark.name])
    return texts | {gpu.PAGE: gpu.page(files[gpu.NAME]), "index.md": _index()}


def _benchmark_of(path: Path) -> str:
    for name in (gpu.NAME, *(benchmark.name for benchmark in BENCHMARKS)):
        if path.stem == name or path.stem.startswith(f"{name}-"):
            return name
    raise PluginError(f"{path}: no page shows this result; add its benchmark to docs/hooks/benchmark_pages")


def _page(benchmark: Benchmark, files: list[Path]) -> str:
    sections = []
    for path in files:
        result = json.loads(path.read_text("utf-8"))
        on_gpu = "gpu" in result.get("machine", {})
        title = f"## On {result['machine']['gpu']}\n\n" if on_gpu else ""
        # The charts and conclusions are about the run on a CPU.
        shown = rows_table(result["rows"]) if on_gpu else benchmark.show(result)
        sections.append(f"{title}{facts(benchmark, path.name, result)}\n{shown}")
    return f"# {benchmark.title}\n\n{benchmark.method}\n\n" + "\n".join(sections)


def _index() -> str:
    rows = "\n".join(f"| [{b.title}]({b.page}) | {b.question} | `{b.command}` |" for b in BENCHMARKS)
    rows += f"\n| [{gpu.TITLE}]({gpu.PAGE}) | {gpu.QUESTION} | `{gpu.COMMAND}` |"
    return f"""# Benchmarks

Every figure in this documentation and in the README is printed by one of these commands and stored as JSON under
`benchmarks/results`. The pages are generated from those files. Each names the machine of its run.
`python -m benchmarks` lists the commands.

| Page | Question | Command |
| --- | --- | --- |
{rows}

Alternatives are timed in turn within one process, so a change in the machine's speed affects all of them; the
figures are medians. Compare ratios rather than seconds: absolute times depend on the machine.
"""
