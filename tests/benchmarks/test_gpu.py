"""The run of all steps on a GPU: verdicts, time limits, interruption, resumption, figures, and the steps themselves."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import figures, frames
from benchmarks.gpu.runner import Record, run
from benchmarks.gpu.step import Step
from benchmarks.gpu.steps import BENCHMARKS, by_priority, gpu_tests, steps
from benchmarks.harness.index import names
from vis4mer.devices.device import CPU, Device
from vis4mer.errors import VideoError
from vis4mer.video import scan
from vis4mer_export.targets.registry import names as formats

ROOT = Path(__file__).parents[2]


def step(name: str, *programs: str, limit: float = 60.0, **values: Any) -> Step:
    """A step that runs Python programs."""
    commands = tuple((sys.executable, "-c", program) for program in programs)
    return Step(name, commands, values.pop("expected", 1.0), limit, **values)


def records_of(tmp_path: Path, *every: Step, budget: float | None = None) -> dict[str, Record]:
    records: dict[str, Record] = {}
    run(every, records, tmp_path, lambda: None, budget=budget)
    assert list(records) == [each.name for each in every]
    return records


def test_every_step_gets_its_verdict_and_none_stops_the_others(tmp_path: Path) -> None:
    saved: list[list[str]] = []
    records: dict[str, Record] = {}
    every = [
        step("fails", "print('words before'); raise SystemExit(3)", "print('never')"),
        step("crashes", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"),
        step("hangs", "import time; print('begun', flush=True); time.sleep(600)", limit=1.5),
        step("no program", "pass", programs=("no-such-program",)),
        step("no package", "pass", packages=("no_such_parent.child",)),
        step("unmet", "pass", after=("fails",)),
        step("passes", "print('first')", "print('second')", after=(), figures=lambda log: {"lines": log.splitlines()}),
        step("met", "pass", after=("passes",)),
    ]
    run(every, records, tmp_path, lambda: saved.append(list(records)))
    assert [record["verdict"] for record in records.values()] == [
        *("failed", "failed", "timed out", "missing", "missing", "missing", "passed", "passed")
    ]
    assert records["fails"]["reason"].startswith("exit status 3: python -c ")
    assert "words before" in records["fails"]["log_tail"]
    assert "never" not in records["fails"]["log_tail"]
    assert records["crashes"]["reason"].startswith("ended by SIGSEGV: ")
    assert "begun" in records["hangs"]["log_tail"]
    assert records["hangs"]["seconds"] < 30
    assert records["no program"]["reason"] == "the program no-such-program is not installed"
    assert records["no package"]["reason"] == "the Python package no_such_parent.child is not installed"
    assert records["unmet"]["reason"] == "the step fails has not passed"
    assert "first" in records["passes"]["figures"]["lines"]
    assert "log_tail" not in records["passes"]
    assert (tmp_path / "passes.log").read_text().endswith("second\n")
    assert saved == [list(records)[: i + 1] for i in range(len(every))]


def test_a_program_that_does_not_exist_fails_its_step_alone(tmp_path: Path) -> None:
    records = records_of(tmp_path, Step("absent", (("no-such-program",),), 1, 60), step("next", "pass"))
    assert [record["verdict"] for record in records.values()] == ["failed", "passed"]
    assert "no-such-program" in "".join(records["absent"]["log_tail"])


def test_output_that_cannot_be_read_fails_the_step(tmp_path: Path) -> None:
    records = records_of(tmp_path, step("silent", "pass", figures=figures.parity))
    assert records["silent"]["verdict"] == "failed"
    assert records["silent"]["reason"].startswith("its output cannot be read: ValueError")


def test_figures_of_an_earlier_run_are_not_taken_for_this_ones(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    result.write_text('{"rows": [{"speed": 1}]}')
    read = figures.columns(result, "speed")
    write = f'import pathlib; pathlib.Path({str(result)!r}).write_text(\'{{"rows": [{{"speed": 2}}]}}\')'
    first = records_of(tmp_path, step("fails", "raise SystemExit(1)", outputs=(result,), figures=read))
    assert (first["fails"]["verdict"], first["fails"]["figures"]) == ("failed", {})
    second = records_of(tmp_path, step("writes", write, outputs=(result,), figures=read))
    assert second["writes"]["figures"] == {"rows": [{"speed": 2}]}


def _is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("ends", [False, True])
def test_a_step_leaves_no_process_behind(ends: bool, tmp_path: Path) -> None:
    """A process that a test started may outlive it, and would keep the GPU's memory."""
    note = tmp_path / "process"
    start = "import subprocess, time; child = subprocess.Popen(['sleep', '600']); "
    start += f"open({str(note)!r}, 'w').write(str(child.pid))"
    records_of(tmp_path, step("starts", start if ends else f"{start}; time.sleep(600)", limit=60 if ends else 3))
    deadline = time.monotonic() + 20
    while _is_running(int(note.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(int(note.read_text()))


def test_a_step_that_takes_longer_than_the_time_left_is_passed_over(tmp_path: Path) -> None:
    long, short = step("long", "pass", expected=100), step("short", "pass", expected=1)
    records = records_of(tmp_path, long, short, budget=50)
    assert [record["verdict"] for record in records.values()] == ["no time", "passed"]
    assert records["long"]["reason"] == "takes about 1:40, 0:50 are left"


def test_the_budget_limits_a_step_that_takes_longer_than_expected(tmp_path: Path) -> None:
    records = records_of(tmp_path, step("slow", "import time; time.sleep(600)", limit=600), budget=2)
    assert records["slow"]["verdict"] == "timed out"


def test_a_log_is_quoted_without_this_machines_folders(tmp_path: Path) -> None:
    records = records_of(tmp_path, step("fails", f"print({str(ROOT / 'tests')!r}); raise SystemExit(1)"))
    assert "./tests" in records["fails"]["log_tail"]
    assert str(ROOT) not in "".join(records["fails"]["log_tail"])


Run = Callable[..., dict[str, Record]]


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command on given steps, and returns the records of the result file."""

    def call(every: list[Step], *arguments: str, status: int = 0) -> dict[str, Record]:
        monkeypatch.setattr(command, "steps", lambda work, gpu: every)
        monkeypatch.setattr(command, "ROOT", tmp_path)
        monkeypatch.setattr("sys.argv", ["gpu", "--dry-run", *arguments])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        try:
            with pytest.raises(SystemExit) as end:
                command.main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        assert int(end.value.code or 0) == status
        result = json.loads((tmp_path / "build" / "gpu-dry-run" / "result.json").read_text())
        assert result["dry_run"] is True
        assert result["machine"]["threads"]
        return {record["name"]: record for record in result["steps"]}

    return call


def _noting(note: Path, name: str, program: str = "", **values: Any) -> Step:
    return step(name, f"open({str(note)!r}, 'a').write('{name} ')\n{program}", **values)


def test_resume_runs_what_is_not_complete(main: Run, tmp_path: Path) -> None:
    note = tmp_path / "note"
    passes, fails = _noting(note, "passes"), _noting(note, "fails", "raise SystemExit(1)")
    late = _noting(note, "late", "import time; time.sleep(600)", limit=0.5)
    absent = _noting(note, "absent", programs=("no-such-program",))
    main([passes, fails, late, absent], status=1)
    note.write_text("")
    records = main([passes, fails, _noting(note, "late"), _noting(note, "absent")], "--resume", status=1)
    assert note.read_text() == "late absent "
    assert [record["verdict"] for record in records.values()] == ["passed", "failed", "passed", "passed"]
    note.write_text("")
    main([_noting(note, "passes", "other = 1"), fails], "--resume", status=1)
    assert note.read_text() == "passes "  # its command has changed


def test_only_the_named_steps_run_and_the_other_records_stay(main: Run, tmp_path: Path) -> None:
    note = tmp_path / "note"
    every = [_noting(note, name) for name in ("build", "export-a", "export-b")]
    main(every)
    note.write_text("")
    records = main(every, "--only", "export-*")
    assert note.read_text() == "export-a export-b "
    assert list(records) == ["build", "export-a", "export-b"]
    note.write_text("")
    assert list(main(every, "--only", "build", "--resume")) == ["build", "export-a", "export-b"]
    assert note.read_text() == ""


def test_a_time_budget_takes_the_most_telling_steps_first(main: Run, tmp_path: Path) -> None:
    note = tmp_path / "note"
    every = [_noting(note, name, priority=priority) for name, priority in (("b", 2), ("a", 1), ("c", 3))]
    records = main(every, "--minutes", "5")
    assert note.read_text() == "a b c "
    assert list(records) == ["b", "a", "c"]  # the result keeps the order of the steps


def test_an_unknown_step_is_one_line_with_the_known_ones(main: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"error: --only teh: must match a step; the steps are build, doctor"):
        main([step("build", "pass"), step("doctor", "pass")], "--only", "teh")


def test_without_a_gpu_the_error_names_the_dry_run() -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a GPU")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert re.fullmatch(r"error: device='cuda': .*; --dry-run tests this command without a GPU\n", done.stderr)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_an_interrupted_run_leaves_what_is_done(number: signal.Signals, status: int, tmp_path: Path) -> None:
    note = tmp_path / "process"
    sleep = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    program = f"""
import sys
from benchmarks.gpu import __main__ as command
from benchmarks.gpu.step import Step
quick = Step("quick", ((sys.executable, "-c", "pass"),), 1, 60)
slow = Step("slow", ((sys.executable, "-c", {sleep!r}),), 1, 600)
command.steps = lambda work, gpu: [quick, slow]
command.main()
"""
    result = tmp_path / "result.json"
    arguments = [sys.executable, "-c", program, "--dry-run", "--output", str(result)]
    with subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(60) == status
    verdicts = {record["name"]: record["verdict"] for record in json.loads(result.read_text())["steps"]}
    assert verdicts == {"quick": "passed", "slow": "interrupted"}
    assert not _is_running(int(note.read_text()))


@pytest.mark.parametrize("gpu", [None, "nvidia-h100"])
def test_the_steps(gpu: str | None) -> None:
    every = steps(Path("build/work"), gpu)
    known = [each.name for each in every]
    assert len(set(known)) == len(known)
    assert {name for each in every for name in each.after} <= set(known)
    for each in every:
        assert each.commands
        assert 0 < each.expected <= each.limit
        for program, *arguments in each.commands:
            assert program in (sys.executable, "compute-sanitizer", "cp")
            absolute = [argument for argument in arguments if argument.startswith("/")]
            assert set(absolute) <= {sys.executable}, "results quote the command"
    assert [each.priority for each in by_priority(every)] == sorted(each.priority for each in every)
    exported = {
        each.name.removeprefix("export-sample-").rpartition("-")[0] for each in every if "-sample-" in each.name
    }
    assert exported == set(formats())


def test_a_step_measures_every_benchmark_that_runs_on_a_gpu() -> None:
    on_gpu = {name for name in names() if importlib.import_module(f"benchmarks.{name}").BENCHMARK.on_gpu}
    assert set(BENCHMARKS) == on_gpu
    for gpu in (None, "name"):
        measured = {each.name.split("-")[1] for each in steps(Path("work"), gpu) if each.name.startswith("benchmark-")}
        assert measured == on_gpu


def test_on_a_gpu_tests_must_not_be_skipped_for_want_of_one() -> None:
    tests = [each for each in steps(Path("build/work"), "name") if each.name.startswith(("tests-", "sanitizer-"))]
    assert len(tests) >= 5
    for each in tests:
        assert each.environment["VIS4MER_REQUIRE_GPU"] == "1"


def test_every_file_with_gpu_tests_is_in_a_step() -> None:
    os.chdir(ROOT)
    covered = [path for paths in gpu_tests(Path("tests")).values() for path in paths]
    assert Path("tests/kernels") in covered
    for path in Path("tests").rglob("test_*.py"):
        if "pytest.mark.gpu" in path.read_text():
            assert any(path == each or each in path.parents for each in covered), path


def test_json_is_read_from_a_log_with_other_lines() -> None:
    log = '$ python -m vis4mer\nwarning: {\n{\n  "old": 1\n}\n{\n  "device": "cuda:0"\n}\nwarning: late\n'
    assert figures.json_object(log) == {"device": "cuda:0"}


def test_figures_of_a_verified_bundle() -> None:
    graph = {"relative_l2": 1e-5, "tolerance": 1e-4, "kinds": ["random"]}
    log = json.dumps({"bundle": "b", "device": "cuda:0", "graphs": {"encoder": graph}}, indent=2)
    expected = {"device": "cuda:0", "graphs": {"encoder": {"relative_l2": 1e-5, "tolerance": 1e-4}}}
    assert figures.parity(log) == expected


def test_figures_of_a_test_run(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_passes(): pass\n"
        "def test_fails(): assert False\n"
        "def test_skips(): pytest.skip('no TensorRT')\n"
        "def test_breaks(no_such_fixture): pass\n"
    )
    report = tmp_path / "report.xml"
    arguments = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}", f"--rootdir={tmp_path}", "-c", os.devnull]
    subprocess.run([sys.executable, "-m", "pytest", *arguments, str(tmp_path)], capture_output=True, check=False)
    counts = figures.tests(report)("")
    assert (counts["passed"], counts["skipped"]) == (1, {"no TensorRT": 1})
    assert counts["failed"] == ["test_some::test_fails", "test_some::test_breaks"]


@pytest.mark.parametrize(
    ("line", "summary"),
    [
        ("========= ERROR SUMMARY: 2 errors", "2 errors"),
        (
            "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)",
            "0 hazards displayed (0 errors, 0 warnings)",
        ),
    ],
)
def test_figures_of_the_sanitizer(line: str, summary: str) -> None:
    assert figures.sanitizer(f"========= COMPUTE-SANITIZER\n1 passed\n{line}\n") == {"summary": summary}
    assert figures.sanitizer("Error: the tool cannot start\n") == {}


@pytest.mark.parametrize("coding", [coding for coding in frames.CODINGS if coding.codec in ("libx264", "libx265")])
def test_movies_declare_their_colours(coding: frames.Coding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_SECONDS", 1)
    path = tmp_path / f"movie.{coding.suffix}"
    frames.write_movie(coding._replace(size=(128, 96)), path)
    assert scan(path).colour_matrix == coding.matrix


class _ChangedFrames:
    """A reader of the GPU whose frames are `shift` levels brighter than PyAV's."""

    def __init__(self, reader: Any, shift: int) -> None:
        self._reader, self._shift = reader, shift
        self.name, self.reason = "dali", "a stand-in"

    def __enter__(self) -> "_ChangedFrames":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def __iter__(self) -> Any:
        for batch in self._reader:
            changed = np.minimum(batch.frames.astype(int) + self._shift, 255).astype(np.uint8)
            yield type(batch)(changed, batch.pts_seconds)


@pytest.mark.parametrize(("shift", "agrees"), [(0, True), (1, True), (4, False)])
def test_frames_that_differ_are_found(
    shift: int, agrees: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "movie.mp4"
    monkeypatch.setattr(frames, "_SECONDS", 2)
    frames.write_movie(frames.TINY[0], path)
    real = frames.open_video

    def open_video(movie: Path, preprocessing: Any, video_decoder: str = "auto", device: Device = CPU) -> Any:
        reader = real(movie, preprocessing, video_decoder="pyav")
        return reader if video_decoder == "pyav" else _ChangedFrames(reader, shift)

    monkeypatch.setattr(frames, "open_video", open_video)
    row = frames.compare(path, Device("cuda"))
    assert (row["agrees"], row["decoder"]) == (agrees, "dali")


def test_a_movie_that_cannot_be_read_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_SECONDS", 1)
    real = frames.compare
    compared: list[Path] = []

    def compare(path: Path, device: Device) -> dict[str, Any]:
        compared.append(path)
        if len(compared) == 1:
            raise VideoError.of("video", path, "has no frame")
        return real(path, device)

    monkeypatch.setattr(frames, "compare", compare)
    absent = frames.Coding("absent", "no-such-codec")
    rows = frames.compare_all((*frames.TINY, absent), CPU)
    assert [row["agrees"] for row in rows] == [False, True, None]


@pytest.mark.slow
def test_quick_steps_of_a_dry_run_pass(tmp_path: Path) -> None:
    quick = ("doctor", "tests-kernels", "checkpoints", "export-sample-onnx-fp32", "frames", "benchmark-video")
    result = tmp_path / "result.json"
    arguments = ["--dry-run", "--output", str(result), "--only", *quick, "sanitizer-memcheck", "export-sample-trt-fp32"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    records = {record["name"]: record for record in json.loads(result.read_text())["steps"]}
    assert {name for name, record in records.items() if record["verdict"] == "passed"} >= {*quick, "sanitizer-memcheck"}
    assert records["export-sample-onnx-fp32"]["figures"]["graphs"].keys() == {"encoder", "visitor"}
    assert all(row["agrees"] for row in records["frames"]["figures"]["rows"])
    assert records["export-sample-trt-fp32"]["verdict"] == ("passed" if _has_tensorrt() else "missing")


def _has_tensorrt() -> bool:
    return importlib.util.find_spec("tensorrt") is not None and Path("/dev/nvidiactl").exists()
