"""Small movies and models, the commands that write files, and what is true of their files after a run that was cut off.

The campaigns of kills and of failing disks run the same commands hundreds of times. Everything is therefore as small as
it can be, and each run is a forked process that need not import anything.
"""

import hashlib
import importlib
import json
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from unittest import mock

import av
import numpy as np

from tests.campaigns import disk_shim
from tests.campaigns.disk_shim import Kind, Mode
from tests.campaigns.isolation import Ending, isolated
from vis4mer.cli.main import main
from vis4mer.runtime.bundle import Bundle
from vis4mer.runtime.manifest import MANIFEST

TIME_LIMIT = 120.0  # seconds

Units = dict[str, str]
"""Digests of the parts of an output by name. A part appears whole or not at all: a bundle, or a single file."""


def write_movie(path: Path, hue: int, seconds: int = 6) -> Path:
    """Writes a movie of one plain frame a second, whose colours follow from `hue`."""
    with av.open(str(path), "w", format="matroska") as file:
        stream = file.add_stream("ffv1", rate=1, width=16, height=16, pix_fmt="bgr0")
        for second in range(seconds):
            colour = (37 * hue % 256, 20 * second, 100)
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), colour, np.uint8), format="rgb24")
            frame.pts, frame.time_base = second, Fraction(1)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@dataclass(frozen=True)
class Command:
    """A command that writes files into a folder of its own.

    Attributes:
        name: Name in the tables.
        arguments: Function from the folder of the inputs and the folder of the output to the command's arguments.
        units: Function from the folder of the output to its units.
        older: Function that puts an older output into the folder of the output, which the command replaces.
        again: Arguments to add when the command runs again over what a run that was cut off has left.
        movies: Number of movies that it reports on separately.
    """

    name: str
    arguments: Callable[[Path, Path], Sequence[str]]
    units: Callable[[Path], Units]
    older: Callable[[Path, Path], None] | None = None
    again: tuple[str, ...] = ()
    movies: int = 1

    def run(self, inputs: Path, output: Path, *, again: bool = False) -> int:
        """Runs the command in this process and returns its exit status."""
        return run_command([*self.arguments(inputs, output), *(self.again if again else ())])


def run_command(arguments: Sequence[str]) -> int:
    """Runs `vis4mer` in this process and returns its exit status."""
    try:
        main(list(arguments), prog_name="vis4mer")
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


_ENCODER = ("--encoder", "test_vit", "--encoder-weights", "random", "--image-size", "32")
_MOVIES = ("train-a", "train-b", "val-a", "val-b", "test-a", "test-b")


def _movies(inputs: Path) -> list[str]:
    return [str(inputs / f"{name}.mkv") for name in _MOVIES]


def _export(inputs: Path, output: Path) -> Sequence[str]:
    checkpoint, movie = str(inputs / "run/best"), str(inputs / "train-a.mkv")
    # The format that is written fastest.
    options = ("--format", "torchscript", "--movie", movie, "-o", str(output / "bundle"), "--force")
    return ("export", "--checkpoint", checkpoint, *options)


def _older_bundle(inputs: Path, output: Path) -> None:
    shutil.copytree(inputs / "bundle", output / "bundle")


def _extract(inputs: Path, output: Path) -> Sequence[str]:
    return ("extract", *_movies(inputs), "-o", str(output / "cache"), *_ENCODER, "--device", "cpu")


def train_arguments(inputs: Path, run: Path, epochs: int = 3) -> Sequence[str]:
    """Returns the command line that trains, or resumes, the run in a folder."""
    sizes = ("--window-seconds", "4", "--d-model", "16", "--n-layers", "1", "--d-state", "4")
    steps = ("--epochs", str(epochs), "--batch-size", "2", "--device", "cpu")
    return ("train", str(inputs / "movies.csv"), "-o", str(run), *_ENCODER, *sizes, *steps)


def _train(inputs: Path, output: Path) -> Sequence[str]:
    return train_arguments(inputs, output / "run")


def _run(inputs: Path, output: Path) -> Sequence[str]:
    bundle, results = str(inputs / "bundle"), str(output / "results.json")
    return ("run", *_movies(inputs)[:2], "--bundle", bundle, "--device", "cpu", "-o", results)


def _timeline(inputs: Path, output: Path) -> Sequence[str]:
    bundle, timeline = str(inputs / "bundle"), str(output / "timeline.png")
    return ("run", _movies(inputs)[0], "--bundle", bundle, "--device", "cpu", "--timeline", timeline)


def _eval(inputs: Path, output: Path) -> Sequence[str]:
    data = ("--movies", str(inputs / "movies.csv"), "--cache", str(inputs / "run/features"))
    return ("eval", str(inputs / "run/best"), *data, "--device", "cpu", "--plots", str(output / "plots"))


_OLDER = "older"


def _older(*names: str) -> Callable[[Path, Path], None]:
    def write(inputs: Path, output: Path) -> None:
        for name in names:
            (output / name).parent.mkdir(exist_ok=True)
            (output / name).write_text(_OLDER)

    return write


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _files(output: Path) -> Units:
    """Returns every visible file as a unit of its own."""
    return {str(path.relative_to(output)): _digest(path.read_bytes()) for path in visible_files(output)}


def _cache(output: Path) -> Units:
    """Returns every visible file as a unit, and every movie that the index lists: it lists those that were encoded."""
    units = _files(output)
    for name in [name for name in units if name.endswith("/index.json")]:
        index = json.loads((output / name).read_text())
        units |= {f"{name}: {file}": _digest(json.dumps(entry).encode()) for file, entry in index.items()}
        units[name] = "an index"
    return units


def _results(output: Path) -> Units:
    """Returns every visible file as a unit, and every movie of the results, which list the others with an error."""
    units = _files(output)
    text = (output / "results.json").read_text() if "results.json" in units else _OLDER
    if text != _OLDER:
        movies = json.loads(text)
        classified = {movie["video"]: movie for movie in movies if "error" not in movie}
        units |= {f"results.json: {video}": _digest(json.dumps(movie).encode()) for video, movie in classified.items()}
        units["results.json"] = f"{len(movies)} movies"
    return units


def _bundles(output: Path) -> Units:
    """Returns every visible folder in `output` as one unit, all of whose files match the manifest.

    TorchScript files hold the lines of the Python program that called the export, so what the manifest states is
    compared instead: names of files, lowerings and the distance from the model, to the last digit.
    """
    units = {}
    for folder in output.iterdir():
        if folder.is_dir() and not folder.name.startswith("."):
            bundle = Bundle.open(folder)
            bundle.verify()
            extra = sorted(path.name for path in folder.iterdir() if path.name not in (*bundle.files, MANIFEST))
            facts = (bundle.format, sorted(bundle.files), extra, dict(bundle.lowering), dict(bundle.parity))
            units[folder.name] = _digest(json.dumps(facts, sort_keys=True).encode())
    return units


def _run_folder(output: Path) -> Units:
    """Returns the files of a run without the seconds that an epoch took.

    The state to resume from holds these seconds too, so its unit is the epoch that it belongs to.
    """
    import torch

    units = _files(output)
    for name in units:
        path = output / name
        if path.name == "history.jsonl":
            units[name] = _digest(json.dumps([_timeless(line) for line in path.read_text().splitlines()]).encode())
        elif path.name == "training.json":
            record = json.loads(path.read_text())
            # The command line names the folder and, in the end, --resume; the commit may change during a campaign.
            del record["figures"]["seconds"], record["command"], record["code"]
            units[name] = _digest(json.dumps(record).encode())
        elif path.name == "README.md":
            lines = path.read_text().splitlines()
            units[name] = _digest("\n".join(line for line in lines if "Code: vis4mer" not in line).encode())
        elif path.name == "trainer.pt":
            units[name] = f"epoch {len(torch.load(path, weights_only=True)['history'])}"
    return units


def _timeless(line: str) -> Mapping[str, float]:
    record: dict[str, float] = json.loads(line)
    return {name: value for name, value in record.items() if name != "seconds"}


def visible_files(folder: Path) -> Iterator[Path]:
    """Yields the files under a folder, except for those that are hidden or lie in a hidden folder."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path


def leftovers(folder: Path) -> list[str]:
    """Returns the hidden files and folders under a folder, which a command may use but should not leave behind."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*") if path.name not in _FOREIGN)


COMMANDS = {
    command.name: command
    for command in (
        Command("export", _export, _bundles, _older_bundle),
        # Beside the movies, the index may be impossible to write.
        Command("extract", _extract, _cache, movies=len(_MOVIES) + 1),
        Command("train", _train, _run_folder, again=("--resume",)),
        Command("run", _run, _results, _older("results.json"), movies=2),
        Command("timeline", _timeline, _files, _older("timeline.png")),
        Command("eval", _eval, _files, _older("plots/movies-classes.png", "plots/movies-confusion.png")),
    )
}

# Names that look like leftovers and belong to another machine, to a user or to a process that runs, here the first one.
_FOREIGN = {
    f".{name}.{host}.{process}.0123abcd"
    for name in ("bundle", "results.json", "timeline.png")
    for host, process in (("another-host", 123), (socket.gethostname(), 1))
} | {".notes"}


def place_foreign_files(output: Path) -> None:
    """Writes the files into a new folder of output that no command may touch."""
    output.mkdir(exist_ok=True)
    for name in (*_FOREIGN, "notes.txt"):
        (output / name).write_text("foreign")


def foreign_problem(output: Path) -> str:
    """Returns which of the foreign files a command has touched; empty if it has touched none."""
    for name in (*_FOREIGN, "notes.txt"):
        path = output / name
        if not path.is_file() or path.read_text() != "foreign":
            return f"the foreign file {name} was touched"
    return ""


def prepare(inputs: Path, folder: Path) -> None:
    """Makes the inputs of all commands: movies, a listing, a trained run with its cache, and a bundle.

    Args:
        inputs: Folder for the inputs, which must exist.
        folder: Folder for the output of the processes.
    """
    rows = ["path,label,split"]
    for hue, name in enumerate(_MOVIES):
        write_movie(inputs / f"{name}.mkv", hue)
        split, _, label = name.partition("-")
        rows.append(f"{name}.mkv,{label},{split}")
    (inputs / "movies.csv").write_text("\n".join(rows) + "\n")
    movie = ["--movie", str(inputs / "train-a.mkv")]
    bundle = [
        "export",
        "--checkpoint",
        str(inputs / "run/best"),
        "--format",
        "onnx",
        "-o",
        str(inputs / "bundle"),
        *movie,
    ]
    for arguments in (list(_train(inputs, inputs)), bundle):
        ending = preloading(lambda arguments=arguments: run_command(arguments), folder)
        assert ending.status == 0, ending.stderr


def preloading(call: Callable[[], int], folder: Path) -> Ending:
    """Runs a call in a process of its own, then imports here what it has imported there.

    The processes that are forked later have these modules already, and no thread that the call has started.
    """
    listing = folder / "modules"

    def listed() -> int:
        status = call()
        listing.write_text("\n".join(sorted(sys.modules)))
        return status

    ending = isolated(listed, TIME_LIMIT, folder)
    for name in listing.read_text().splitlines() if ending.status == 0 else ():
        # Some modules exist only while another is being imported, and some need what the call had set up.
        with suppress(Exception):
            importlib.import_module(name)
    listing.unlink(missing_ok=True)
    return ending


@dataclass(frozen=True)
class Expected:
    """The units that a command may leave.

    Attributes:
        final: Units after a complete run.
        allowed: All digests that each unit has at some time of a complete run.
        seconds: Wall time of a complete run.
    """

    final: Units
    allowed: Mapping[str, set[str]]
    seconds: float

    def cut_off_problem(self, before: Units, units: Units) -> str:
        """Returns what is wrong after a run that was cut off; empty if nothing is.

        Args:
            before: Units before the run, all of which must still exist.
            units: Units after the run, each unchanged or whole.
        """
        if lost := sorted(set(before) - set(units)):
            return f"{lost[0]} of the older output is gone"
        for name, digest in units.items():
            if before.get(name) != digest and digest not in self.allowed.get(name, ()):
                return f"{name} is damaged"
        return ""

    def final_problem(self, units: Units) -> str:
        """Returns which unit of a complete run is wrong; empty if there is none."""
        for name in sorted({*self.final, *units}):
            if self.final.get(name) != units.get(name):
                state = "is missing" if name not in units else "differs" if name in self.final else "should not exist"
                return f"{name} {state} after a complete run"
        return ""


def expectations(names: Sequence[str], scratch: Path) -> dict[str, Expected]:
    """Makes the inputs in a new folder ``inputs``, and returns what each command may leave.

    Args:
        names: Names of commands.
        scratch: Empty folder, which receives the folder ``logs`` too, for the output of the processes.
    """
    (scratch / "inputs").mkdir()
    (scratch / "logs").mkdir()
    prepare(scratch / "inputs", scratch / "logs")
    # Imported before any expected output is made: a TorchScript file depends on the modules that are there before the
    # export. The second round imports what the first one could not.
    for name in (*names, *names):
        with _placed(scratch / "output") as output:
            preloading(lambda name=name: COMMANDS[name].run(scratch / "inputs", output), scratch / "logs")
    return {name: _expect(COMMANDS[name], scratch) for name in names}


@contextmanager
def _placed(output: Path) -> Iterator[Path]:
    place_foreign_files(output)
    try:
        yield output
    finally:
        shutil.rmtree(output)


def _expect(command: Command, scratch: Path) -> Expected:
    stages = scratch / "logs/stages"
    stages.touch()
    with _placed(scratch / "output") as output, _recorded_stages(command, output, stages):
        ending = isolated(lambda: command.run(scratch / "inputs", output), TIME_LIMIT, scratch / "logs")
        assert ending.status == 0, ending.stderr
        assert not leftovers(output), leftovers(output)
        final = command.units(output)
    allowed: dict[str, set[str]] = {name: {digest} for name, digest in final.items()}
    for line in stages.read_text().splitlines():
        for name, digest in json.loads(line).items():
            allowed.setdefault(name, set()).add(digest)
    stages.unlink()
    return Expected(final, allowed, ending.seconds)


def second_run_problem(command: Command, expected: Expected, ending: Ending, output: Path) -> str:
    """Returns why a run that was to complete what another has left has not done so; empty if it has.

    Args:
        command: The command.
        expected: What it may leave.
        ending: Ending of the second run.
        output: Folder of the output.
    """
    if ending.status != 0:
        return f"a second run fails: {ending.stderr.strip()}"
    left = leftovers(output)
    return (
        expected.final_problem(command.units(output))
        or foreign_problem(output)
        or (f"a second run leaves {left[0]}" if left else "")
    )


def counted_calls(command: Command, kinds: Kind, scratch: Path) -> int:
    """Returns how many calls of some kinds a command makes that replaces an older output; the shim must be loaded."""
    count = scratch / "logs/count"
    with _placed(scratch / "output") as output:
        if command.older:
            command.older(scratch / "inputs", output)

        def counting() -> int:
            disk_shim.arm(output, Mode.COUNT, kinds)
            status = command.run(scratch / "inputs", output)
            count.write_text(str(disk_shim.counted()))
            return status

        ending = isolated(counting, TIME_LIMIT, scratch / "logs")
        assert ending.status == 0, ending.stderr
    return int(count.read_text())


@contextmanager
def _recorded_stages(command: Command, output: Path, stages: Path) -> Iterator[None]:
    """Records the units after each epoch of a training run, one line of JSON each."""
    from vis4mer.training.fit.state import RunFolder

    save_state = RunFolder.save_state

    def recording(folder: RunFolder, state: Mapping[str, object]) -> None:
        save_state(folder, state)
        with stages.open("a") as file:
            file.write(json.dumps(command.units(output)) + "\n")

    with mock.patch.object(RunFolder, "save_state", recording):
        yield
