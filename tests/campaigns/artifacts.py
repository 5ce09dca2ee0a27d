"""Damaged and hostile checkpoints, bundles, caches and run folders: an error in one line or an answer, nothing else.

One file of an artifact is changed at random: bytes, or, where it holds JSON or YAML, values, keys and types too. It is
then opened as the product opens it, in a process of its own. A failure is a signal, a run of more than 60 s, more than
1 GB of memory, an exception that is not of this project, any change to the artifact's folder, or a file that a payload
in it could have created. The crafted inputs are pickles that would run a program, archives that grow a thousandfold,
and headers that state sizes up to 2**63.

In a bundle, a changed file no longer matches its digest. The rows named *resealed* are those of an attacker who states
the new digest in the manifest.

    python -m tests.campaigns.artifacts                            # 2,000 mutations of each file
    python -m tests.campaigns.artifacts --count 50 --artifacts checkpoint
"""

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.campaigns import artifacts_crafted, campaign
from tests.campaigns.artifacts_crafted import Crafted
from tests.campaigns.artifacts_values import mutate_file
from tests.campaigns.campaign import HANG_SECONDS, Trial
from tests.campaigns.commands import preloading, prepare, run_command, train_arguments
from tests.campaigns.isolation import Ending, isolated
from vis4mer.devices.device import CPU
from vis4mer.errors import Vis4merError
from vis4mer.models.checkpoint import load_checkpoint
from vis4mer.runtime.bundle import Bundle
from vis4mer.runtime.manifest import MANIFEST, manifest_digest
from vis4mer.runtime.parity import CASES_FILE, check_bundle
from vis4mer.training.settings_file import read_settings
from vis4mer.training.tokens.cache import FeatureCache

OUTCOMES = ("opened", "refused")
PUBLISHED = Path(__file__).parents[1] / "resources/original/regression-two-layers/checkpoint.pt"


@dataclass(frozen=True)
class Artifact:
    """One file of what the product reads.

    Attributes:
        name: Name in the table.
        folder: Folder under the inputs that is copied for each trial.
        file: Pattern of the file to change within it; its first match is taken.
        ways: Functions that open a copy, given the inputs and the copy; they take turns.
        crafted: Function from the marker to functions that make hostile files.
        resealed: Whether the manifest states the digest of the changed file.
        rewritten: Whether an artifact that is accepted may be written to, as a run that is resumed is, or a
            cache, whose description and index follow from its name and its token files and are written anew.
    """

    name: str
    folder: str
    file: str
    ways: tuple[Callable[[Path, Path], int], ...]
    crafted: Callable[[Path], Crafted] = lambda marker: {}
    resealed: bool = False
    rewritten: bool = False

    @property
    def row(self) -> tuple[str, str]:
        """Values of the columns of the table."""
        return self.name, self.file.removeprefix("*/") + (", resealed" if self.resealed else "")

    def target(self, copy: Path) -> Path:
        """Returns the file to change in a copy."""
        return sorted(copy.glob(self.file))[0]


def _reported(open_it: Callable[[], object]) -> int:
    """Opens an artifact; returns 0 for an answer and 1 for one of this project's errors."""
    try:
        open_it()
    except Vis4merError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _load(inputs: Path, path: Path) -> int:
    return _reported(lambda: load_checkpoint(path))


def _load_published(inputs: Path, path: Path) -> int:
    return _reported(lambda: load_checkpoint(path / "weights.pt"))


def _inspect(inputs: Path, path: Path) -> int:
    return run_command(["inspect", str(path)])


def _inspect_published(inputs: Path, path: Path) -> int:
    return run_command(["inspect", str(path / "weights.pt")])


def _check_bundle(inputs: Path, path: Path) -> int:
    def opened() -> None:
        bundle = Bundle.open(path)
        bundle.verify()
        check_bundle(bundle, CPU)

    return _reported(opened)


def _run_bundle(inputs: Path, path: Path) -> int:
    return run_command(["run", str(inputs / "val-a.mkv"), "--bundle", str(path), "--device", "cpu"])


def _read_tokens(inputs: Path, path: Path) -> int:
    """Reads the tokens of every movie, as training does."""

    def opened() -> None:
        model = load_checkpoint(inputs / "run/best")
        assert model.encoder is not None
        cache = FeatureCache(path, model.encoder, model.config.preprocessing, refuse_others=True)
        for movie in sorted(inputs.glob("[tv][ra]*.mkv")):  # of the splits train and val
            tokens = cache.tokens(movie)
            tokens.metadata()
            tokens.read(0, 9)
            tokens.pick([tokens.n_frames - 1, 0])

    return _reported(opened)


def _extract(inputs: Path, path: Path) -> int:
    encoder = ("--encoder", "test_vit", "--encoder-weights", "random", "--image-size", "32", "--device", "cpu")
    return run_command(["extract", str(inputs / "train-a.mkv"), "-o", str(path), *encoder])


def _resume(inputs: Path, path: Path) -> int:
    """Resumes a run for one more epoch."""
    return run_command([*train_arguments(inputs, path, epochs=4), "--resume"])


def _resume_finished(inputs: Path, path: Path) -> int:
    return run_command([*train_arguments(inputs, path), "--resume", "--tensorboard"])


def _read_settings(inputs: Path, path: Path) -> int:
    return _reported(lambda: read_settings(path / "settings.yaml"))


def _repeat(inputs: Path, path: Path) -> int:
    """Reads the settings of a run and refuses to begin it, because the folder holds a run."""
    return run_command(["train", "--config", str(path / "settings.yaml"), "-o", str(path)])


def _evaluate(inputs: Path, path: Path) -> int:
    data = ("--movies", str(inputs / "movies.csv"), "--cache", str(inputs / "run/features"))
    return run_command(["eval", str(path / "best"), *data, "--device", "cpu"])


_BUNDLE = (_check_bundle, _inspect, _run_bundle)
_TOKENS = (_read_tokens, _extract)

ARTIFACTS = (
    Artifact("checkpoint", "run/best", "config.json", (_load, _inspect), lambda _: artifacts_crafted.json_files()),
    Artifact("checkpoint", "run/best", "model.safetensors", (_load,), lambda _: artifacts_crafted.safetensors_files()),
    Artifact(
        "published", "published", "weights.pt", (_load_published, _inspect_published), artifacts_crafted.weight_files
    ),
    Artifact("bundle", "bundle", MANIFEST, _BUNDLE, lambda _: artifacts_crafted.json_files()),
    Artifact("bundle", "bundle", MANIFEST, _BUNDLE, resealed=True),
    Artifact("bundle", "bundle", "encoder.onnx", _BUNDLE),
    Artifact("bundle", "bundle", "encoder.onnx", _BUNDLE, resealed=True),
    Artifact("bundle", "bundle", "decoder.onnx", _BUNDLE, resealed=True),
    Artifact("bundle", "bundle", CASES_FILE, _BUNDLE),
    Artifact(
        "bundle", "bundle", CASES_FILE, (_check_bundle,), lambda _: artifacts_crafted.array_archives(), resealed=True
    ),
    Artifact(
        "cache",
        "run/features",
        "*/*.safetensors",
        _TOKENS,
        lambda _: artifacts_crafted.safetensors_files(),
        rewritten=True,
    ),
    Artifact(
        "cache", "run/features", "*/encoder.json", _TOKENS, lambda _: artifacts_crafted.json_files(), rewritten=True
    ),
    Artifact("cache", "features", "*/index.json", _TOKENS, lambda _: artifacts_crafted.json_files(), rewritten=True),
    Artifact("run", "run", "last/trainer.pt", (_resume,), artifacts_crafted.weight_files, rewritten=True),
    Artifact("run", "run", "settings.yaml", (_read_settings, _repeat)),
    Artifact("run", "run", "history.jsonl", (_resume_finished,), rewritten=True),
    Artifact("run", "run", "tensorboard/*", (_resume_finished, _resume), rewritten=True),
    Artifact(
        "run",
        "run",
        "last/training.json",
        (_resume_finished,),
        lambda _: artifacts_crafted.json_files(),
        rewritten=True,
    ),
    Artifact("run", "run", "best/training.json", (_evaluate,), lambda _: artifacts_crafted.json_files()),
    Artifact("run", "run", "best/config.json", (_evaluate,)),
)
NAMES = tuple(dict.fromkeys(artifact.name for artifact in ARTIFACTS))


def _folder_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes() if path.is_file() else b"/")
    return digest.hexdigest()


def _reseal(bundle: Path, file: Path) -> None:
    """Lets the manifest state the digest of a changed file and of itself; a manifest that is no object stays."""
    try:
        values = json.loads((bundle / MANIFEST).read_bytes())
        if file.name != MANIFEST:
            data = file.read_bytes()
            values["files"][file.name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        values["digest"] = manifest_digest(values)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return
    (bundle / MANIFEST).write_text(json.dumps(values))


def attempt(number: int, seed: int | str, scratch: Path) -> Trial:
    """Opens one changed artifact.

    Args:
        number: Index of the artifact in `ARTIFACTS`.
        seed: Seed of the change, or the name of a crafted file.
        scratch: Folder with the folders ``inputs`` and ``logs``.
    """
    artifact, inputs = ARTIFACTS[number], scratch / "inputs"
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        copy, marker = Path(folder) / "copy", Path(folder) / "marker"
        shutil.copytree(inputs / artifact.folder, copy)
        target = artifact.target(copy)
        if isinstance(seed, str):
            target.write_bytes(artifact.crafted(marker)[seed]())
            way = artifact.ways[0]
        else:
            target.write_bytes(mutate_file(target.read_bytes(), target.suffix, seed))
            way = artifact.ways[seed // 2 % len(artifact.ways)]
        if artifact.resealed:
            _reseal(copy, target)
        before = _folder_digest(copy)
        ending = isolated(lambda: way(inputs, copy), HANG_SECONDS, scratch / "logs")
        problem = campaign.failure(ending) or _side_effect(artifact, ending, before, copy, marker)
    name = f"{way.__name__.strip('_')}, {seed if isinstance(seed, str) else f'seed {seed}'}"
    outcome = "refused" if ending.status else "opened"
    return Trial(artifact.row, name, outcome, problem, ending.seconds, ending.peak_bytes)


def _side_effect(artifact: Artifact, ending: Ending, before: str, copy: Path, marker: Path) -> str:
    if marker.exists():
        return "code in the file ran"
    unchanged = ending.status == 1 or not artifact.rewritten
    if unchanged and _folder_digest(copy) != before:
        return "the artifact's folder changed"
    lines = [
        line
        for line in ending.stderr.splitlines()
        if not line.startswith(("vis4mer: info", "vis4mer: warning", "epoch "))
    ]
    return f"{len(lines)} lines on stderr: {lines[:2]}" if ending.status == 1 and len(lines) != 1 else ""


def _make_inputs(scratch: Path) -> None:
    """Makes every artifact, and imports what opening them needs."""
    inputs, logs = scratch / "inputs", scratch / "logs"
    inputs.mkdir()
    logs.mkdir()
    prepare(inputs, logs)
    (inputs / "published").mkdir()
    shutil.copy(PUBLISHED, inputs / "published/weights.pt")
    shutil.copytree(inputs / "run/features", inputs / "features")
    assert isolated(lambda: _extract(inputs, inputs / "features"), HANG_SECONDS, logs).status == 0
    assert isolated(lambda: _write_curves(inputs / "run/tensorboard"), HANG_SECONDS, logs).status == 0
    for artifact in ARTIFACTS:
        for way in artifact.ways:
            copy = scratch / "copy"
            shutil.copytree(inputs / artifact.folder, copy)
            ending = preloading(lambda way=way, copy=copy: way(inputs, copy), logs)
            # Otherwise a refusal would prove nothing.
            assert ending.status == (1 if way is _repeat else 0), f"{way.__name__}: {ending.stderr}"
            shutil.rmtree(copy)


def _write_curves(folder: Path) -> int:
    from vis4mer.training.fit.curves import Curves

    curves = Curves(folder)
    for epoch in (1, 2, 3):
        curves.add({"epoch": epoch, "val_loss": 1 / epoch})
    return 0


def _attempts(task: tuple[int, Sequence[int | str], Path]) -> list[Trial]:
    number, seeds, scratch = task
    return [attempt(number, seed, scratch) for seed in seeds]


def trials(names: Sequence[str], count: int, jobs: int, scratch: Path) -> Iterator[Trial]:
    """Runs the campaign.

    Args:
        names: Names of artifacts.
        count: Mutations of each file; the crafted files are added.
        jobs: Processes at once.
        scratch: Empty folder.
    """
    torch.set_num_threads(1)
    _make_inputs(scratch)
    share = 20  # trials of a task: small enough that progress is shown often
    tasks = []
    for number, artifact in enumerate(ARTIFACTS):
        if artifact.name in names:
            seeds = [*artifact.crafted(scratch / "marker"), *range(count)]
            tasks += [(number, seeds[first : first + share], scratch) for first in range(0, len(seeds), share)]
    yield from campaign.in_processes(_attempts, tasks, sum(len(seeds) for _, seeds, _ in tasks), jobs)


def main() -> None:
    """Runs the campaign, prints its table and optionally writes it as JSON."""
    parser = campaign.parser(__doc__)
    parser.add_argument("--count", type=int, default=2000, help="mutations of each file")
    parser.add_argument("--artifacts", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        done = trials(options.artifacts, options.count, options.jobs, Path(folder).resolve())
        rows = campaign.table(("artifact", "file"), OUTCOMES, done)
    sys.exit(campaign.finish("artifacts", __doc__, rows, options.output))


if __name__ == "__main__":
    main()
