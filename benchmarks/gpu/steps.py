"""The steps of a run on a GPU, and the same steps in tiny form on the CPU for a dry run."""

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu import figures
from benchmarks.gpu.step import Command, Step

MINUTE = 60.0
PYTHON = sys.executable
VIS4MER: Command = (PYTHON, "-m", "vis4mer.cli.main")

# Columns of each benchmark's table that the result keeps, by the benchmark's name.
BENCHMARKS = {
    "encoder": ("way", "dtype", "batch", "frames_per_second", "share_of_limit", "device_bytes", "drift"),
    "video": ("movie", "decoder", "frames_per_second", "times_pyav"),
    "decoder": ("call", "way", "dtype", "times_limit", "faster_than_baseline", "peak_bytes", "drift"),
    "pipeline": ("movie", "way", "precision", "video_decoder", "movie_seconds_per_second", "faster", "drift"),
    "head": ("graph", "dtype", "seconds", "times_limit", "device_bytes", "drift"),
    "attention": ("call", "mixer", "L", "dtype", "times_s4_seconds", "times_s4_bytes"),
    "longconv": ("H", "L", "target", "lowering", "milliseconds", "relative_l2"),
}
_FIRST_BENCHMARKS = ("encoder", "video", "decoder")
_PRECISION_STEPS = ("bf16", "fp16", "fp32")

FORMATS = ("onnx", "torchscript", "pt2", "trt", "trt-rtx")
PRECISIONS = ("fp32", "fp16", "bf16")
# The exports whose figures matter most, one of each format, come first where time is short.
_FIRST_EXPORTS = {("onnx", "fp16"), ("torchscript", "fp16"), ("pt2", "bf16"), ("trt", "fp16"), ("trt-rtx", "fp16")}
_PACKAGES = {"trt": ("tensorrt",), "trt-rtx": ("tensorrt_rtx",)}

_OPS_TESTS = ("tests/kernels/test_long_conv.py", "tests/kernels/test_ssm_kernel.py")
_SANITIZER_STATUS = "99"  # unlike any status of pytest


def steps(work: Path, gpu: str | None) -> list[Step]:
    """Returns all steps, in order.

    Args:
        work: Folder for checkpoints, bundles and reports, relative to the repository.
        gpu: Name of the GPU in the names of the benchmarks' result files. None for a dry run on the CPU: tests are
            collected only, benchmarks and models are tiny, and the tests that compute-sanitizer would check run without
            it.
    """
    dry_run = gpu is None
    checkpoints = work / "checkpoints"
    models = ("sample", "tiny" if dry_run else "paper")
    made: Command = (PYTHON, "-m", "benchmarks.gpu.checkpoints", str(checkpoints), *models)
    return [
        _build(dry_run),
        Step("doctor", ((*VIS4MER, "doctor", "--json"),), 30, 5 * MINUTE, 1, figures=figures.doctor),
        *(_tests(folder, paths, work, dry_run) for folder, paths in gpu_tests(Path("tests")).items()),
        Step("checkpoints", (made,), 30, 10 * MINUTE, 1),
        *_exports("sample", FORMATS, checkpoints, work, dry_run, expected=45, priority=1),
        # A dry run exports the large model's stand-in once, because the sample has shown that every format works.
        *_exports(models[1], FORMATS[:1] if dry_run else FORMATS, checkpoints, work, dry_run, expected=150, priority=2),
        _frames(dry_run),
        *(_benchmark(*case, work, gpu) for case in _cases(dry_run)),
        *(_sanitizer(tool, dry_run) for tool in ("memcheck", "racecheck", "initcheck")),
    ]


def by_priority(all_steps: list[Step]) -> list[Step]:
    """Returns the steps in the order in which they are most useful if time runs out."""
    return sorted(all_steps, key=lambda step: step.priority)  # stable: within a priority, the order stays


def gpu_tests(folder: Path) -> dict[str, list[Path]]:
    """Returns the files that hold tests marked ``gpu``, by their folder; a folder whose conftest marks tests is whole.

    Each folder is a step of its own, because a test that breaks the CUDA context makes all later ones of its process
    fail.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.py")):
        if "mark.gpu" in path.read_text("utf-8"):
            known = found.setdefault(str(path.parent), [])
            known.append(path.parent if path.name == "conftest.py" else path)
    return found


def _build(dry_run: bool) -> Step:
    device = "cpu" if dry_run else "cuda"
    works = f"from vis4mer_kernels.library import library; print(library()); assert '{device}' in library().devices"
    commands = ((PYTHON, "-m", "vis4mer_kernels.build"), (PYTHON, "-c", works))
    return Step("build", commands, 120, 15 * MINUTE, 1, programs=() if dry_run else ("nvcc",))


def _tests(folder: str, paths: list[Path], work: Path, dry_run: bool) -> Step:
    name = "tests-" + folder.partition("/")[2].replace("/", "-")
    report = work / f"{name}.xml"
    pytest: Command = (PYTHON, "-m", "pytest", "-q", "-m", "gpu", *map(str, paths))
    if dry_run:
        return Step(name, ((*pytest, "--collect-only"),), 20, 5 * MINUTE, 1)
    return Step(
        name,
        ((*pytest, f"--junitxml={report}"),),
        60,
        10 * MINUTE,
        1,
        environment={"VIS4MER_REQUIRE_GPU": "1"},
        outputs=(report,),
        figures=figures.tests(report),
    )


def _exports(
    model: str,
    formats: Sequence[str],
    checkpoints: Path,
    work: Path,
    dry_run: bool,
    *,
    expected: float,
    priority: int,
) -> list[Step]:
    """Returns a step for each format and precision: exports the model, and verifies the bundle on the device."""
    return [
        _export(model, checkpoints, work, format, precision, dry_run, expected, priority)
        for format in formats
        for precision in (("fp32",) if dry_run else PRECISIONS)
    ]


def _export(
    model: str,
    checkpoints: Path,
    work: Path,
    format: str,
    precision: str,
    dry_run: bool,
    expected: float,
    priority: int,
) -> Step:
    device = "cpu" if dry_run else "cuda"
    bundle = str(work / "bundle")
    export: Command = (
        *(*VIS4MER, "export", "--checkpoint", str(checkpoints / model), "--format", format),
        *("--precision", precision, "--output", bundle, "--force"),
        *(("--device", device) if format == "pt2" else ()),
        # The exporting machine's CPU cannot run bf16 ONNX, nor can a dry run's execute an engine.
        *(("--unverified",) if (format, precision) == ("onnx", "bf16") or (dry_run and format == "trt-rtx") else ()),
    )
    verify: Command = (*VIS4MER, "verify", bundle, "--device", device, "--json")
    executed = not (dry_run and format == "trt-rtx")
    return Step(
        f"export-{model}-{format}-{precision}",
        (export, verify) if executed else (export,),
        expected,
        20 * MINUTE,
        priority if (format, precision) in _FIRST_EXPORTS else priority + 1,
        packages=_PACKAGES.get(format, ()),
        after=("checkpoints",),
        figures=figures.parity if executed else lambda log: {},
    )


def _frames(dry_run: bool) -> Step:
    command: Command = (PYTHON, "-m", "benchmarks.gpu.frames", "--device", "cpu" if dry_run else "cuda")
    if dry_run:
        return Step("frames", ((*command, "--tiny"),), 20, 5 * MINUTE, 1, figures=figures.json_object)
    return Step("frames", (command,), 60, 10 * MINUTE, 1, packages=("nvidia.dali",), figures=figures.json_object)


def _cases(dry_run: bool) -> list[tuple[str, str]]:
    """Returns the benchmarks to run, and the precision of each where it is measured alone.

    Building the encoder in every format takes minutes for each precision, so every precision is a step of its own.
    """
    cases = []
    for name in BENCHMARKS:
        alone = _PRECISION_STEPS if name == "encoder" and not dry_run else ("",)
        cases += [(name, precision) for precision in alone]
    return cases


def _benchmark(name: str, precision: str, work: Path, gpu: str | None) -> Step:
    """Returns a step that runs a benchmark; on a GPU its result goes to the results that the documentation shows."""
    suffix = f"-{precision}" if precision else ""
    result = work / f"{name}{suffix}.json"
    arguments: tuple[str, ...] = ("--device", "cuda") if gpu else ("--device", "cpu", "--tiny")
    arguments += ("--precision", precision) if precision else ()
    measure: Command = (PYTHON, "-m", f"benchmarks.{name}", *arguments, "--output", str(result))
    keep: Command = ("cp", str(result), f"benchmarks/results/{name}-{gpu}{suffix}.json")
    first = name in _FIRST_BENCHMARKS and precision in ("", _PRECISION_STEPS[0])
    return Step(
        f"benchmark-{name}{suffix}",
        (measure, keep) if gpu else (measure,),
        5 * MINUTE if gpu else MINUTE,
        (40 if gpu else 10) * MINUTE,
        1 if first else 2,
        outputs=(result,),
        figures=figures.columns(result, *BENCHMARKS[name]),
    )


def _sanitizer(tool: str, dry_run: bool) -> Step:
    """Returns a step that runs the tests of the native ops under compute-sanitizer.

    The longest sequences and the tests of the registration are left out: instrumented, they take very long.
    """
    pytest: Command = (PYTHON, "-m", "pytest", "-q", *_OPS_TESTS, "-k")
    if dry_run:
        command: Command = (*pytest, "cpu and empty", "-m", "not gpu")
        return Step(f"sanitizer-{tool}", (command,), 15, 5 * MINUTE, 1)
    sanitizer: Command = ("compute-sanitizer", "--tool", tool, "--error-exitcode", _SANITIZER_STATUS)
    sanitizer += ("--launch-timeout", "300")  # seconds until Python has imported PyTorch
    if tool != "initcheck":
        # Only this project's kernels. initcheck has to see all of them, because the others write what these read.
        sanitizer += ("--kernel-regex", "kns=vis4mer")
    command = (*sanitizer, *pytest, "cuda and not registration and not 11820 and not 2955", "-m", "gpu")
    # Without PyTorch's cache every tensor is an allocation of its own, whose ends are checked.
    environment = {"VIS4MER_REQUIRE_GPU": "1", "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    return Step(
        f"sanitizer-{tool}",
        (command,),
        5 * MINUTE,
        30 * MINUTE,
        1 if tool == "memcheck" else 3,
        programs=("compute-sanitizer",),
        after=("build",),
        environment=environment,
        figures=figures.sanitizer,
    )
