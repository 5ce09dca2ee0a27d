"""The page of the runs on GPUs, made from their results."""

import json
from pathlib import Path

import benchmark_pages
import pytest
from benchmark_pages import gpu

RESULT = {
    "description": "Everything.",
    "machine": {"cpu": "A processor", "threads": 8, "python": "3.12", "gpu": "NVIDIA X", "driver": "600.1"},
    "commit": "0123abc",
    "date": "2026-01-31",
    "dry_run": False,
    "steps": [
        {"name": "build", "verdict": "passed", "reason": "", "seconds": 12.3, "commands": []},
        {
            "name": "export-sample-trt-fp16",
            "verdict": "missing",
            "reason": "the Python package tensorrt is not installed",
            "seconds": 0.0,
            "commands": [],
        },
        {
            "name": "tests-kernels",
            "verdict": "failed",
            "reason": "exit status 1: python -m pytest -k 'a|b'",
            "seconds": 60.0,
            "commands": [],
            "figures": {"passed": 3, "failed": ["tests.test_a::test_b[<x>]"], "skipped": {}},
            "log_tail": ["E   assert 1 < 0", "1 failed"],
        },
        {
            "name": "benchmark-encoder",
            "verdict": "passed",
            "reason": "",
            "seconds": 300.0,
            "commands": [],
            "figures": {"rows": [{"way": "eager", "share_of_limit": 0.51234}, {"way": "onnx", "device_bytes": 5}]},
        },
    ],
}


def test_without_a_result_the_page_states_so() -> None:
    page = gpu.page([])
    assert "No result of this command exists yet" in page
    assert "##" not in page


def test_the_page_shows_machine_verdicts_figures_and_logs(tmp_path: Path) -> None:
    path = tmp_path / "gpu-nvidia-x.json"
    path.write_text(json.dumps(RESULT))
    page = gpu.page([path])
    assert "No result" not in page
    for text in (
        "## NVIDIA X",
        "A processor, 8 threads",
        "| Driver | 600.1 |",
        "2 passed, 1 missing, 1 failed",
        "| `build` | passed | 12 |  |",
        "| `export-sample-trt-fp16` | missing | 0 | the Python package tensorrt is not installed |",
        "python -m pytest -k 'a&#124;b' |",
        "failed: tests.test_a::test_b[&lt;x&gt;]",
        "assert 1 &lt; 0\n1 failed</pre>",
        "| eager | 0.5123 |  |",
        "| onnx |  | 5 |",
        "data/gpu-nvidia-x.json",
    ):
        assert text in page


@pytest.mark.parametrize("name", ["encoder", "decoder", "head", "video"])
def test_a_benchmarks_result_from_a_gpu_is_a_table_on_its_page(name: str, root: Path, tmp_path: Path) -> None:
    """Rows of a GPU have other ways and columns than those of a CPU, for which the charts are made."""
    for path in (root / "benchmarks" / "results").glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    row = {"way": "trt", "dtype": "fp16", "batch": 32, "frames_per_second": 4321.0}
    result = {"description": "", "machine": RESULT["machine"], "rows": [row]}
    (tmp_path / f"{name}-nvidia-x.json").write_text(json.dumps(result))
    before, after = (benchmark_pages.pages(folder)[f"{name}.md"] for folder in (root / "benchmarks/results", tmp_path))
    assert after.startswith(before)
    assert "## On NVIDIA X" in after
    assert "| trt | fp16 | 32 | 4321 |" in after
