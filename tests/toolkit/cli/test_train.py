import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

import vis4mer
from vis4mer.cli.command_line import command_line
from vis4mer.cli.main import main
from vis4mer.cli.train import train as train_command

SMALL = (
    *("--encoder", "vit_tiny_patch16_224", "--encoder-weights", "random", "--image-size", "32"),
    *("--window-seconds", "8", "--d-model", "16", "--n-layers", "2", "--d-state", "8"),
    *("--batch-size", "4", "--lr", "1e-2", "--device", "cpu"),
)


def write_video(path: Path, brightness: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=2, width=32, height=32, pix_fmt="yuv420p")
        for i in range(20):
            image = np.full((32, 32, 3), brightness if i < 6 else 128, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("movies")
    rows = ["path,label"]
    for i in range(12):
        write_video(folder / f"{i}.mp4", brightness=255 - i if i % 2 else i)
        rows.append(f"{i}.mp4,{'bright' if i % 2 else 'dark'}")
    path = folder / "movies.csv"
    path.write_text("\n".join(rows))
    return path


def train(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def test_from_a_listing_to_a_model_that_predicts(listing: Path, tmp_path: Path) -> None:
    result = train(listing, "-o", tmp_path / "out", "--epochs", "12", *SMALL)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(str(tmp_path / "out" / "best") + ": epoch ")
    assert result.stderr.count("val accuracy") == 12

    classifier = vis4mer.load(tmp_path / "out" / "best", device="cpu")
    for name, label in (("1.mp4", "bright"), ("0.mp4", "dark")):
        assert classifier(listing.parent / name).label == label

    config = json.loads((tmp_path / "out" / "best" / "config.json").read_text())
    assert config["heads"]["decoder"]["labels"] == ["bright", "dark"]
    assert config["preprocessing"]["height"] == 32
    assert config["windows"]["seconds"] == 8


def test_resume_continues_a_run_and_without_it_a_run_is_not_overwritten(listing: Path, tmp_path: Path) -> None:
    common = (listing, "-o", tmp_path / "out", "--cache", tmp_path / "cache", *SMALL)
    assert train(*common, "--epochs", "1").exit_code == 0
    encoded = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")}
    assert len(encoded) == 12

    refused = train(*common, "--epochs", "2")
    assert refused.exit_code == 1
    assert "already holds a run; pass --resume (in Python resume=True) to continue it" in refused.stderr

    resumed = train(*common, "--epochs", "2", "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    assert len((tmp_path / "out" / "history.jsonl").read_text().splitlines()) == 2
    assert {path: path.stat().st_mtime_ns for path in encoded} == encoded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoder", "no_such_model"], "error: --encoder='no_such_model'"),
        (["--encoder-weights", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--head", "9lives"], "error: --head='9lives'"),
        (["--n-layers", "6", "--d-model", "64", "--window-seconds", "5"], "error: --n-layers=6: must be at most 4"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_encoded(
    listing: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = train(listing, "-o", tmp_path / "out", *SMALL, *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--lr", "inf"),
        ("--d-model", "30"),
        ("--d-state", "7"),
        ("--image-size", "9000"),
        ("--window-seconds", "0.5"),
        ("--protocol", "lvu"),
        ("--epochs", "0"),
        ("--lr", "-1"),
        ("--weight-decay", "-1"),
        ("--warmup", "1"),
        ("--seed", "-1"),
        ("--val-ratio", "1"),
        ("--window-seconds", "0"),
        ("--device", "gpu"),
    ],
)
def test_wrong_usage_exits_with_2(listing: Path, tmp_path: Path, option: str, value: str) -> None:
    result = train(listing, "-o", tmp_path / "out", option, value)
    assert result.exit_code == 2
    assert option in result.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_mistake_of_the_command_line_is_not_one_of_the_settings_file(listing: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(f"data: {{movies: {listing}}}\nhead: {{d_model: 30}}\n")
    config = ("--config", tmp_path / "s.yaml", "-o", tmp_path / "out")
    result = train(*config)
    assert result.exit_code == 1
    assert "config=" in result.stderr
    assert "head.d_model=30: must be divisible by 8" in result.stderr
    result = train(*config, "--d-model", "31")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("Error: --d-model=31: must be divisible by 8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "4", "--window-seconds", "8"], "--window-seconds has no effect: with --samples 4"),
        (["--samples", "4", "--stride", "2"], "--stride has no effect: with --samples 4"),
        (["--segments", "4", "--fps", "2"], "--fps has no effect: with --segments 4"),
        (["--schedule", "plateau", "--warmup", "0.1"], "--warmup has no effect: --schedule plateau has no warm-up"),
        (["--val-ratio", "0.5"], "--val-ratio has no effect: movies.csv has a column 'split'"),
    ],
)
def test_an_option_without_effect_is_wrong_usage(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "movies.csv").write_text("path,label,split\nx.mp4,a,train\n")
    result = train(tmp_path / "movies.csv", "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(f"Error: {message}")
    assert not (tmp_path / "out").exists()


def test_an_unreadable_movie_is_an_error_that_names_the_option_to_skip_it(listing: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    rows = listing.read_text().replace("\n", f"\n{listing.parent}/")
    (tmp_path / "movies.csv").write_text(f"{rows}\n{bad},dark\n")
    common = (tmp_path / "movies.csv", "--cache", tmp_path / "cache", "--epochs", "1", *SMALL)
    failed = train(*common, "-o", tmp_path / "failed")
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1].endswith("; --skip-unreadable trains without such movies")
    skipped = train(*common, "-o", tmp_path / "out", "--skip-unreadable")
    assert skipped.exit_code == 0, skipped.stderr
    assert "vis4mer: warning: left out 1 of 13 movies: " in skipped.stderr
    record = json.loads((tmp_path / "out" / "best" / "training.json").read_text())
    assert [name for names in record["data"]["skipped"].values() for name in names] == ["bad.mp4"]


def test_resume_alone_continues_with_the_settings_and_the_cache_of_the_run(listing: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(listing, "-o", run, "--cache", tmp_path / "cache", "--epochs", "2", *SMALL).exit_code == 0
    begin = time.monotonic()
    finished = train("-o", run, "--resume")
    assert time.monotonic() - begin < 20
    assert finished.exit_code == 0
    assert finished.stderr == f"vis4mer: info: the run in {run} is finished: 2 epochs of 2\n"
    assert finished.stdout.startswith(f"{run}/best: epoch ")

    longer = train("-o", run, "--resume", "--epochs", "3", "--device", "cpu")
    assert longer.exit_code == 0, longer.stderr
    assert "begun with epochs=2 and continues with 3" in longer.stderr
    assert len((run / "history.jsonl").read_text().splitlines()) == 3
    assert not (run / "features").exists()

    fewer = train("-o", run, "--resume", "--epochs", "1")
    assert fewer.exit_code == 1
    assert "error: --epochs=1: the run that" in fewer.stderr
    other = train("-o", run, "--resume", "--lr", "0.5")
    assert other.exit_code == 1
    assert "error: --lr=0.5: is 0.01 in the run that" in other.stderr


def test_resume_alone_needs_a_run(tmp_path: Path) -> None:
    result = train("-o", tmp_path, "--resume")
    assert result.exit_code == 2
    assert f"--resume: {tmp_path} holds no run; pass a CSV of movies or --protocol" in result.stderr


def test_a_run_that_was_stopped_while_it_encoded_resumes_alone(
    listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vis4mer.training.tokens.cache.open_video", interrupted)
        stopped = train(listing, "-o", tmp_path / "run", "--epochs", "1", *SMALL)
    assert stopped.exit_code == 130
    assert "interrupted; continue with: " in stopped.stderr
    resumed = train("-o", tmp_path / "run", "--resume", "--device", "cpu")
    assert resumed.exit_code == 0, resumed.stderr
    assert "holds no complete epoch to resume after; starting at the first" in resumed.stderr


def test_the_recorded_command_repeats_options_that_reset_something() -> None:
    arguments = ["movies.csv", "-o", "out", "--samples", "none", "--no-as-published", "--skip-unreadable"]
    with train_command.make_context("train", list(arguments)) as ctx:
        words = shlex.split(command_line(ctx))[1:]
    assert "None" not in words
    assert "False" not in words
    with train_command.make_context("train", words) as again, train_command.make_context("train", arguments) as ctx:
        assert again.params == ctx.params


def test_the_listing_is_checked_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text("path,label\ngone.mp4,dark\n")
    program = (
        "import sys; from vis4mer.cli.main import main\n"
        "try: main()\n"
        "finally: print([name for name in ('torch', 'timm') if name in sys.modules])"
    )
    command = [sys.executable, "-c", program, "train", "movies.csv", "-o", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "[]\n")
    assert "no such video" in done.stderr


def test_a_download_is_announced_before_it_starts(
    listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    create = timm.create_model

    def offline(name: str, pretrained: bool, **settings: Any) -> Any:
        if pretrained:
            raise OSError("no network " + "here " * 100)
        return create(name, pretrained=False, **settings)

    monkeypatch.setattr("vis4mer.models.hub._reason", lambda request: None)
    monkeypatch.setattr(timm, "create_model", offline)
    result = train(listing, "-o", tmp_path / "out", *SMALL, "--encoder-weights", "hub")
    assert result.exit_code == 1
    announced, failed = result.stderr.splitlines()
    assert announced.startswith("vis4mer: info: downloading the weights of vit_tiny_patch16_224 from the Hugging Face")
    assert " ...; use --encoder-weights FILE, or random" in failed


def test_a_missing_movie_is_a_one_line_error(listing: Path, tmp_path: Path) -> None:
    broken = listing.with_name("broken.csv")
    broken.write_text(listing.read_text() + "\ngone.mp4,dark\n")
    result = train(broken, "-o", tmp_path / "out", *SMALL)
    assert result.exit_code == 1
    assert "gone.mp4" in result.stderr
    assert result.stderr.count("\n") == 1


def test_ctrl_c_keeps_the_last_complete_epoch_and_exits_with_130(listing: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-c", "from vis4mer.cli.main import main; main()", "train", str(listing)]
    command = [*program, "-o", str(tmp_path / "out"), "--epochs", "100000", *SMALL]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.split()[:2] == ["epoch", "2"]:
                break
        os.kill(process.pid, signal.SIGINT)
        remaining = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in remaining
    history = (tmp_path / "out" / "history.jsonl").read_text().splitlines()
    assert len(history) >= 2
    resumed = train(listing, "-o", tmp_path / "out", "--resume", "--epochs", str(len(history)), *SMALL)
    assert resumed.exit_code == 0, resumed.stderr


def torchrun(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*command, "-m", "vis4mer.cli.main", "train", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_torchrun_computes_the_figures_of_one_process(listing: Path, tmp_path: Path) -> None:
    common = (listing, *SMALL, "--cache", tmp_path / "cache", "--epochs", "2", "--dropout", "0", "--tensorboard")
    result = torchrun(*common, "-o", tmp_path / "two")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1
    assert result.stdout.startswith(str(tmp_path / "two" / "best") + ": epoch ")
    assert [result.stderr.count(f"epoch {epoch} ") for epoch in (1, 2)] == [1, 1]
    assert train(*common, "-o", tmp_path / "one").exit_code == 0
    one, two = (
        [json.loads(line) for line in (tmp_path / run / "history.jsonl").read_text().splitlines()]
        for run in ("one", "two")
    )
    for a, b in zip(one, two, strict=True):
        assert {**a, "seconds": 0} == pytest.approx({**b, "seconds": 0}, rel=1e-4)
    assert json.loads((tmp_path / "two" / "best" / "training.json").read_text())["processes"] == 2
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 1


@pytest.mark.slow
def test_torchrun_reports_a_mistake_once(listing: Path, tmp_path: Path) -> None:
    for broken in ("gone.csv", listing):
        result = torchrun(broken, "-o", tmp_path / "out", *SMALL, "--encoder-weights", "nowhere.safetensors")
        assert result.returncode == 1
        assert result.stderr.count("vis4mer: error: ") == 1


def test_curves_for_tensorboard(listing: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = train(listing, "-o", tmp_path / "out", *SMALL, "--epochs", "2", "--tensorboard")
    assert done.exit_code == 0, done.stderr
    history = [json.loads(line) for line in (tmp_path / "out" / "history.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    for tag, name in (("val/accuracy", "val_accuracy"), ("train/loss", "train_loss"), ("lr", "lr")):
        assert [event.step for event in events.Scalars(tag)] == [1, 2]
        assert [event.value for event in events.Scalars(tag)] == pytest.approx([r[name] for r in history], rel=1e-6)


def test_missing_tensorboard_is_reported_before_anything_is_encoded(
    listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    result = train(listing, "-o", tmp_path / "out", *SMALL, "--tensorboard")
    assert result.exit_code == 1
    assert "package='tensorboard'" in result.stderr
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_record_holds_the_command_that_repeats_the_run(listing: Path, tmp_path: Path) -> None:
    assert train(listing, "-o", tmp_path / "a b", *SMALL, "--epochs", "1").exit_code == 0
    record = json.loads((tmp_path / "a b" / "last" / "training.json").read_text())
    _, *arguments = shlex.split(record["command"].replace(str(tmp_path / "a b"), str(tmp_path / "again")))
    assert arguments[0] == "train"
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.stderr
    again = json.loads((tmp_path / "again" / "last" / "training.json").read_text())
    assert (again["settings"], again["figures"]["val_loss"]) == (record["settings"], record["figures"]["val_loss"])


@pytest.mark.parametrize(
    "arguments",
    [[], ["--protocol", "lvu/scene"], ["movies.csv", "--protocol", "lvu/scene"], ["movies.csv", "--videos", "x"]],
)
def test_a_run_needs_either_a_listing_or_a_protocol_with_its_folders(tmp_path: Path, arguments: list[str]) -> None:
    result = train("-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert "--protocol" in result.stderr


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "last" / "model.safetensors")


def test_the_stored_settings_repeat_the_run_bit_for_bit(listing: Path, tmp_path: Path) -> None:
    first = train(listing, "-o", tmp_path / "first", *SMALL, "--epochs", "2", "--seed", "3", "--stride", "2")
    assert first.exit_code == 0, first.stderr
    stored = tmp_path / "first" / "settings.yaml"
    again = train("--config", stored, "-o", tmp_path / "again", "--device", "cpu")
    assert again.exit_code == 0, again.stderr
    assert again.stderr.count("val accuracy") == 2
    before, after = weights(tmp_path / "first"), weights(tmp_path / "again")
    assert before.keys() == after.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert (tmp_path / "again" / "settings.yaml").read_bytes() == stored.read_bytes()

    other = train("--config", stored, "-o", tmp_path / "other", "--device", "cpu", "--seed", "4", "--epochs", "1")
    assert other.exit_code == 0, other.stderr
    assert len((tmp_path / "other" / "history.jsonl").read_text().splitlines()) == 1
    assert any(not torch.equal(before[name], value) for name, value in weights(tmp_path / "other").items())


def test_a_mistake_in_a_settings_file_is_one_line(listing: Path, tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(f"data: {{movies: {listing}}}\ntraining: {{lr: fast}}\n")
    result = train("--config", path, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr == f"vis4mer: error: --config={str(path)!r}: training.lr='fast': must be a number\n"
    assert not (tmp_path / "out").exists()
    missing = train("--config", tmp_path / "gone.yaml", "-o", tmp_path / "out")
    assert missing.exit_code == 1
    assert "gone.yaml': no such file" in missing.stderr


def test_the_former_name_of_loader_workers_warns(tmp_path: Path) -> None:
    result = train("--workers", "1", "-o", tmp_path / "out", "gone.csv")
    assert result.stderr.splitlines()[0] == (
        "vis4mer: warning: --workers is now --loader-workers; the next version removes the old name"
    )
