"""Determinism: equal input on one machine gives equal bytes, or figures that differ by rounding alone where noted.

Every run is a fresh process, whose output is compared with that of the first one. What is promised must be equal to the
byte. Everything else must have the same labels and probabilities within 1e-5: sums of float32 depend on their order,
and libraries choose it by the number of threads and by the shape of a batch.

    python -m tests.campaigns.determinism                                    # 20 runs of each
    python -m tests.campaigns.determinism --count 3 --subjects bundle
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tests.campaigns.campaign import ROOT, finish, parser
from tests.campaigns.material import write_checkpoint, write_movie

CLOSE = 1e-5  # largest difference of two probabilities that counts as rounding
_LIMIT_SECONDS = 600
_COMMAND = "from vis4mer.cli.main import main; main(prog_name='vis4mer')"

Output = dict[str, bytes]
"""Contents of what a run has written, by name."""


@dataclass(frozen=True)
class Setting:
    """What differs between two runs.

    Attributes:
        name: Name for failures, such as ``--batch-size 7``.
        arguments: Further arguments of the command.
        environment: Variables of the environment; each run has a PYTHONHASHSEED of its own beside them.
        processors: Number of processors that the process may use; 0 for all.
    """

    name: str
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    processors: int = 0


@dataclass(frozen=True)
class Row:
    """One row of the table: a subject and what is varied.

    Attributes:
        subject: What is produced.
        varied: What differs between the runs.
        promised: Whether equal bytes are promised.
        settings: Settings of the runs; all are compared with a run without any.
        run: Function from a folder with the inputs, an empty folder and a setting to the run's output.
    """

    subject: str
    varied: str
    promised: bool
    settings: Sequence[Setting]
    run: Callable[[Path, Path, Setting], Output]


def command(arguments: Sequence[str], inputs: Path, setting: Setting) -> bytes:
    """Runs `vis4mer` in the folder of the inputs, and returns what it writes to stdout."""
    return _python(["-c", _COMMAND, *arguments, *setting.arguments], inputs, setting)


def _python(arguments: Sequence[str], inputs: Path, setting: Setting) -> bytes:
    processors = sorted(os.sched_getaffinity(0))[: setting.processors or None]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=inputs,
        env={**os.environ, "PYTHONPATH": _python_path(), **dict(setting.environment)},
        capture_output=True,
        timeout=_LIMIT_SECONDS,
        preexec_fn=lambda: os.sched_setaffinity(0, processors),
    )
    if done.returncode:
        raise RuntimeError(f"{setting.name}: exit status {done.returncode}: {done.stderr.decode().strip()[-500:]}")
    return done.stdout


def _python_path() -> str:
    return os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]).rstrip(os.pathsep)


def _files(folder: Path) -> Output:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _predict(movie: str, bundle: str | None) -> Callable[[Path, Path, Setting], Output]:
    def run(inputs: Path, output: Path, setting: Setting) -> Output:
        model = () if bundle is None else ("--bundle", bundle)
        return {
            "stdout": command(["run", movie, *model, "--device", "cpu", "--output-format", "json"], inputs, setting)
        }

    return run


def _predict_in_threads(bundle: str | None) -> Callable[[Path, Path, Setting], Output]:
    def run(inputs: Path, output: Path, setting: Setting) -> Output:
        arguments = ["-m", "tests.campaigns.determinism", "--answer", bundle or "", setting.name]
        return {"stdout": _python(arguments, inputs, setting)}

    return run


def answer(bundle: str, name: str) -> None:
    """Prints the predictions of one classifier for all movies, of one thread or of eight at once, as JSON."""
    import vis4mer

    classifier = vis4mer.load(bundle or None, device="cpu")
    movies = sorted(str(path) for path in Path().glob("*.mp4")) * 2
    with ThreadPoolExecutor(8 if "threads" in name else 1) as pool:
        predictions = list(pool.map(classifier, movies))
    print(json.dumps([prediction.to_dict() for prediction in predictions]))


def _timeline(inputs: Path, output: Path, setting: Setting) -> Output:
    for name in ("timeline.png", "timeline.html"):
        arguments = ["run", "sample.mp4", "--device", "cpu", "--timeline", str(output / name), "--quiet"]
        command(arguments, inputs, setting)
    return _files(output)


def _export(format: str) -> Callable[[Path, Path, Setting], Output]:
    def run(inputs: Path, output: Path, setting: Setting) -> Output:
        bundle = output / "bundle"
        command(["export", "--checkpoint", "checkpoint", "--format", format, "-o", str(bundle)], inputs, setting)
        return _files(bundle)

    return run


_ENCODER = ("--encoder", "test_vit", "--encoder-weights", "random", "--image-size", "32", "--device", "cpu")


def _extract(inputs: Path, output: Path, setting: Setting) -> Output:
    movies = [path.name for path in sorted(inputs.glob("[0-9].mp4"))]
    command(["extract", *movies, "-o", str(output), *_ENCODER], inputs, setting)
    return _files(output)


def _train(inputs: Path, output: Path, setting: Setting) -> Output:
    sizes = ("--window-seconds", "4", "--d-model", "16", "--n-layers", "1", "--d-state", "4")
    steps = ("--epochs", "3", "--batch-size", "2", "--seed", "7")
    command(["train", "movies.csv", "-o", str(output), *_ENCODER, *sizes, *steps], inputs, setting)
    # The other files record how long the epochs took, and the command line with the output's folder.
    return {name: data for name, data in _files(output).items() if name.endswith(("model.safetensors", "config.json"))}


_AGAIN = [Setting("the same")] * 1000
_THREADS = [Setting("8 threads")] * 1000
_BATCHES = [Setting(f"--batch-size {n}", ("--batch-size", str(n))) for n in (1, 2, 3, 7, 16, 31, 64, 100)]
_OPENMP = [Setting(f"OMP_NUM_THREADS={n}", environment=(("OMP_NUM_THREADS", str(n)),)) for n in (1, 2, 3, 4, 8)]
_PROCESSORS = [Setting(f"{n} processors", processors=n) for n in (1, 2)]


def rows_of(subject: str) -> list[Row]:
    """Returns the rows of one subject of the command line."""
    sample, checkpoint = _predict("sample.mp4", None), _predict("sample.mp4", "checkpoint")
    process = "process, hash seed"
    rows = {
        "bundle": [
            Row("prediction, ONNX bundle", process, True, _AGAIN, sample),
            Row("prediction, ONNX bundle", "8 threads of one classifier", True, _THREADS, _predict_in_threads(None)),
            Row("prediction, ONNX bundle", "batch size", False, _BATCHES, sample),
            Row("prediction, ONNX bundle", "OMP_NUM_THREADS", False, _OPENMP, sample),
            Row("prediction, ONNX bundle", "processors", False, _PROCESSORS, sample),
        ],
        "checkpoint": [
            Row("prediction, checkpoint", process, True, _AGAIN, checkpoint),
            Row(
                "prediction, checkpoint",
                "8 threads of one classifier",
                True,
                _THREADS,
                _predict_in_threads("checkpoint"),
            ),
            Row("prediction, checkpoint", "batch size", False, _BATCHES, checkpoint),
            Row("prediction, checkpoint", "OMP_NUM_THREADS", False, _OPENMP, checkpoint),
            Row("prediction, checkpoint", "processors", False, _PROCESSORS, checkpoint),
        ],
        "timeline": [Row("timeline, PNG and HTML", process, True, _AGAIN, _timeline)],
        "export": [
            Row("export, ONNX", process, True, _AGAIN, _export("onnx")),
            Row("export, TorchScript", process, True, _AGAIN, _export("torchscript")),
        ],
        "extract": [Row("extract, tokens and index", process, True, _AGAIN, _extract)],
        "train": [Row("train, one seed: weights and configuration", process, True, _AGAIN, _train)],
    }
    return rows[subject]


SUBJECTS = ("bundle", "checkpoint", "timeline", "export", "extract", "train")


def difference(one: object, other: object) -> float:
    """Returns the largest difference of two numbers at the same place of two JSON values.

    Returns:
        Infinity if the values differ in anything but fractional numbers, such as a label, or one of these is NaN.
    """
    if isinstance(one, float) and isinstance(other, float):
        distance = abs(one - other)
        # Comparisons with NaN are false, so it would pass as small.
        return float("inf") if math.isnan(distance) else distance
    if isinstance(one, dict) and isinstance(other, dict):
        # Two dictionaries are equal in Python whatever their order, but their JSON is not.
        same_keys = list(one) == list(other)
        return max((difference(one[key], other[key]) for key in one), default=0.0) if same_keys else float("inf")
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max((difference(*pair) for pair in zip(one, other, strict=True)), default=0.0)
    return 0.0 if one == other else float("inf")


def compare(reference: Output, output: Output, *, promised: bool) -> tuple[float, str]:
    """Compares a run's output with the first one's.

    Returns:
        The largest difference of two figures, and why that is a failure; empty if it is none.
    """
    different = sorted(name for name in {*reference, *output} if reference.get(name) != output.get(name))
    if not different:
        return 0.0, ""
    if different != ["stdout"]:
        return float("inf"), f"{', '.join(different)} differ"
    greatest = difference(json.loads(reference["stdout"]), json.loads(output["stdout"]))
    if promised or greatest > CLOSE:
        return greatest, f"figures differ by {greatest:.1e}"
    return greatest, ""


def run(row: Row, count: int, inputs: Path) -> dict[str, Any]:
    """Makes the runs of one row and returns it as the table holds it."""
    reference = _run(row, Setting("one at a time"), inputs, seed=0)
    equal, greatest, failures = 0, 0.0, []
    settings = list(islice(row.settings, count))
    for seed, setting in enumerate(settings, start=1):
        apart, problem = compare(reference, _run(row, setting, inputs, seed), promised=row.promised)
        equal += apart == 0.0 and not problem
        greatest = max(greatest, apart)
        failures += [f"{setting.name}: {problem}"] if problem else []
    return {
        "subject": row.subject,
        "varied": row.varied,
        "promised": "equal bytes" if row.promised else "the same within 1e-5",
        "tried": len(settings),
        "equal": equal,
        "failed": len(failures),
        "greatest_difference": f"{greatest:.1e}" if greatest else "0",
        "failures": failures,
    }


def _run(row: Row, setting: Setting, inputs: Path, seed: int) -> Output:
    hash_seed = ("PYTHONHASHSEED", str(seed))
    seeded = Setting(setting.name, setting.arguments, (*setting.environment, hash_seed), setting.processors)
    with tempfile.TemporaryDirectory() as folder:
        return row.run(inputs, Path(folder), seeded)


def prepare(folder: Path) -> None:
    """Writes the inputs: the sample movie, small movies, their listing, and a checkpoint."""
    (folder / "sample.mp4").write_bytes((ROOT / "samples" / "movie.mp4").read_bytes())
    splits = ("train", "train", "train", "train", "val", "val")
    lines = ["path,label,split"]
    for number, split in enumerate(splits):
        write_movie(folder / f"{number}.mp4", 8 + number, 72 + 8 * number)
        lines.append(f"{number}.mp4,{'ab'[number % 2]},{split}")
    (folder / "movies.csv").write_text("\n".join(lines) + "\n")
    write_checkpoint(folder / "checkpoint")


def campaign(subjects: Sequence[str], count: int) -> list[dict[str, Any]]:
    """Runs the subjects and returns the rows of the table."""
    with tempfile.TemporaryDirectory() as name:
        inputs = Path(name)
        prepare(inputs)
        rows = [row for subject in subjects for row in rows_of(subject)]
        table = []
        for number, row in enumerate(rows, start=1):
            print(f"{number} of {len(rows)}: {row.subject}, {row.varied}", file=sys.stderr, flush=True)
            table.append(run(row, count, inputs))
    return table


def main() -> None:
    """Runs the campaign, prints its table and optionally writes it as JSON."""
    options_of = parser(__doc__)
    options_of.add_argument("--count", type=int, default=20, help="runs of each row, as far as it has settings")
    options_of.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    # What the rows about threads run: the bundle, and the name of the setting.
    options_of.add_argument("--answer", nargs=2, help="for the campaign itself")
    options = options_of.parse_args()
    if options.answer:
        answer(*options.answer)
        return
    sys.exit(finish("determinism", __doc__, campaign(options.subjects, options.count), options.output))


if __name__ == "__main__":
    main()
