"""The contract of a benchmark, the index, the machine's description and the progress line."""

import argparse
import importlib
import io
import json
from pathlib import Path

import pytest

from benchmarks import __main__ as listing
from benchmarks import video
from benchmarks.harness import machine, progress
from benchmarks.harness.benchmark import RESULTS, Benchmark, Result
from benchmarks.harness.index import commands, names
from vis4mer.errors import VideoError


def run(benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr("sys.argv", ["benchmark", *map(str, arguments)])
    benchmark.main()


def two_rows(options: argparse.Namespace) -> Result:
    return {"rows": [{"tiny": options.tiny}, {"tiny": options.tiny}]}


def test_a_result_has_description_machine_and_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = Benchmark("two_rows", "Two rows.", two_rows)
    run(benchmark, monkeypatch, "--output", tmp_path / "result.json")
    result = json.loads((tmp_path / "result.json").read_text())
    assert list(result) == ["description", "machine", "rows"]
    assert (result["description"], result["rows"]) == ("Two rows.", [{"tiny": False}] * 2)


def test_a_tiny_run_writes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.harness.benchmark.RESULTS", tmp_path)
    benchmark = Benchmark("two_rows", "Two rows.", two_rows)
    run(benchmark, monkeypatch, "--tiny")
    assert not list(tmp_path.iterdir())
    run(benchmark, monkeypatch)
    assert [path.name for path in tmp_path.iterdir()] == ["two_rows.json"]


def test_results_of_a_gpu_have_its_name() -> None:
    benchmark = Benchmark("attention", "", two_rows, on_gpu=True)
    assert benchmark.path("NVIDIA H100 PCIe").name == "attention-nvidia-h100-pcie.json"


def test_an_unwritable_file_is_an_error_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = Benchmark("name", "", lambda options: pytest.fail("must not measure"))
    with pytest.raises(SystemExit, match=r"^error: .*absent"):
        run(benchmark, monkeypatch, "--output", tmp_path / "absent" / "result.json")


def test_an_error_of_the_toolkit_takes_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(options: argparse.Namespace) -> Result:
        raise VideoError.of("video", "movie.mp4", "has no frame")

    with pytest.raises(SystemExit, match=r"^error: video='movie.mp4': has no frame$"):
        run(Benchmark("name", "", fail), monkeypatch, "--tiny")


@pytest.mark.parametrize("name", names())
def test_every_module_defines_its_benchmark(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = importlib.import_module(f"benchmarks.{name}").BENCHMARK
    assert benchmark.name == name
    assert benchmark.path() == RESULTS / f"{name}.json"
    with pytest.raises(SystemExit, match="0"):
        run(benchmark, monkeypatch, "--help")
    text = capsys.readouterr().out
    assert text.startswith(f"usage: python -m benchmarks.{name} ")
    assert f"\n    python -m benchmarks.{name}" in text
    assert "--tiny" in text


def test_every_result_belongs_to_a_benchmark() -> None:
    for path in RESULTS.glob("*.json"):
        assert path.stem.partition("-")[0] in (*names(), "gpu")


def test_the_index_lists_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    listing.main()
    lines = capsys.readouterr().out.splitlines()
    for command, summary in commands().items():
        assert summary.endswith(".")
        assert any(line.split("  ")[0] == command and line.endswith(summary) for line in lines)


def test_a_tiny_run_has_the_fields_of_the_committed_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(video.BENCHMARK, monkeypatch, "--tiny", "--output", tmp_path / "video.json")
    tiny, committed = (json.loads((folder / "video.json").read_text()) for folder in (tmp_path, RESULTS))
    assert tiny.keys() >= committed.keys()
    assert [row.keys() for row in tiny["rows"]] == [committed["rows"][0].keys()] * 2
    assert len(capsys.readouterr().out.splitlines()) == 3


X86 = (
    "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 fma avx512f amx_bf16\n\nprocessor\t: 1\nflags\t: sve\n"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16 sve2\n"


@pytest.mark.parametrize(
    ("text", "sets"), [(X86, ["avx2", "fma", "avx512f", "amx_bf16"]), (ARM, ["asimd", "bf16", "sve2"]), ("", [])]
)
def test_machine_names_the_instruction_sets(
    text: str, sets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    if text:
        (tmp_path / "cpuinfo").write_text(text)
    facts = machine.machine()
    assert facts["instruction_sets"] == sets
    assert facts["cpu"] == ("Some CPU" if text == X86 else machine.platform.processor())
    assert "gpu" not in facts
    assert machine.machine("Some GPU")["gpu"] == "Some GPU"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Returns the time of the clock, which a test sets."""
    time = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


def test_progress_shows_share_and_time_left(now: list[float]) -> None:
    seen = []
    for _ in progress.progress(["short", "long"], weight={"short": 1.0, "long": 3.0}.__getitem__):
        seen.append(progress.status())
        now[0] += 30
    assert seen == ["[  0%] short", "[ 25%, 1:30 left] long"]
    assert progress.status() == ""


def test_an_inner_loop_is_a_part_of_the_outer_step(now: list[float]) -> None:
    seen = []
    for _ in progress.progress(["a", "b"]):
        for _ in progress.progress(range(2), lambda i: f"run {i}"):
            seen.append(progress.status())
            now[0] += 10
    assert seen == [
        "[  0%] a: run 0",
        "[ 25%, 0:30 left] a: run 1",
        "[ 50%, 0:20 left] b: run 0",
        "[ 75%, 0:10 left] b: run 1",
    ]


def test_progress_is_rare_in_a_file_and_absent_from_stdout(
    now: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_last_written", 0.0)
    for _ in progress.progress(range(10)):
        progress.show("row")
        now[0] += 10
    out, err = capsys.readouterr()
    assert out == "row\n" * 10
    assert [line.rpartition(" ")[2] for line in err.splitlines()] == ["0", "3", "6", "9"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_rewrites_one_line_of_a_terminal(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    list(progress.progress(["a", "b"]))
    assert terminal.getvalue() == "\r\x1b[2K[  0%] a\r\x1b[2K[ 50%, 0:00 left] b\r\x1b[2K"
