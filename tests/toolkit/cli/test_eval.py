import csv
import dataclasses
import json
import math
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from vis4mer.cli.main import main
from vis4mer.config import DecoderConfig, HeadConfig, ModelConfig
from vis4mer.models.checkpoint import load_checkpoint
from vis4mer.models.vis4mer import Vis4mer

ENCODER = ("--encoder", "test_vit", "--encoder-weights", "random", "--image-size", "32")
HEAD = ("--window-seconds", "4", "--stride", "2", "--d-model", "16", "--n-layers", "2", "--d-state", "4")
LVU = ("relationship", ("friends", "wife", "husband", "boss"))


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def write_video(path: Path, seed: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=2, width=32, height=32, pix_fmt="yuv420p")
        rng = np.random.default_rng(seed)
        for _ in range(14):
            image = np.full((32, 32, 3), rng.integers(256, size=3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def movies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten videos, split files in the format of LVU that list them and one missing video, and a CSV of the ten."""
    root = tmp_path_factory.mktemp("lvu")
    task, names = LVU
    (root / task).mkdir()
    (root / "videos").mkdir()
    for split, count in (("train", 4), ("val", 2), ("test", 4)):
        rows = ["class_id class_name youtube_id imdb_id"]
        for i in range(count):
            write_video(root / "videos" / f"{split}{i}.mp4", seed=["train", "val", "test"].index(split) * 10 + i)
            rows.append(f"{i % 4} {names[i % 4]} {split}{i} tt0")
        if split == "test":
            rows.append(f"0 {names[0]} gone tt0")
        (root / task / f"{split}.csv").write_text("\n".join(rows) + "\n")
    rows = ["path,label,split"]
    for split, count in (("train", 4), ("val", 2), ("test", 4)):
        rows += [f"videos/{split}{i}.mp4,{names[i % 4]},{split}" for i in range(count)]
    (root / "movies.csv").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module")
def runs(movies: Path) -> list[Path]:
    """Models of one task from two seeds, with the same encoder."""
    from safetensors.torch import save_file

    from vis4mer.config import Preprocessing
    from vis4mer.models.encoder import FrameEncoder

    weights = movies / "encoder.safetensors"
    encoder = FrameEncoder.build("test_vit", Preprocessing(height=32, width=32), "random")
    save_file(encoder.vit.state_dict(), weights)
    outputs = []
    for seed in (0, 1):
        output = movies / f"run{seed}"
        done = command(
            *("train", "--protocol", "lvu/relationship", "--videos", movies / "videos", "--splits", movies),
            *("-o", output, "--cache", movies / "cache", "--epochs", "1", "--seed", seed, "--device", "cpu"),
            *ENCODER,
            *HEAD,
            *("--encoder-weights", weights),
        )
        assert done.exit_code == 0, done.stderr
        assert "1 of 11 videos of lvu/relationship are missing: gone" in done.stderr
        outputs.append(output / "best")
    return outputs


def evaluate(movies: Path, *arguments: str | Path) -> Result:
    return command("eval", *arguments, "--cache", movies / "cache", "--device", "cpu")


def test_the_table_has_the_published_results_and_the_missing_movies(movies: Path, runs: list[Path]) -> None:
    where = ("--videos", movies / "videos", "--splits", movies)
    result = evaluate(movies, *runs, *where)
    assert result.exit_code == 0, result.stderr
    header, row, *notes = result.stdout.splitlines()
    assert header.split("  ")[0] == "data"
    assert "mean of runs" in header
    for text in ("lvu/relationship", "53.10", "57.14", "62.50", "25.00", "4 of 5"):
        assert text in row
    assert "±" in row
    assert notes[-1] == "lvu/relationship: 1 missing: gone"

    report = json.loads(evaluate(movies, *runs, *where, "--json").stdout)["results"][0]
    assert report["published"]["ViS4mer"] == pytest.approx(0.5714)
    accuracies = [run["accuracy"] for run in report["runs"]]
    assert [run["seed"] for run in report["runs"]] == [0, 1]
    assert report["accuracy"]["mean"] == pytest.approx(sum(accuracies) / 2)
    assert report["accuracy"]["spread"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / math.sqrt(2))
    confusion = np.array(report["confusion"])
    assert confusion.sum(1).tolist() == [2] * 4
    assert confusion.trace() / confusion.sum() == pytest.approx(report["accuracy"]["mean"])
    assert report["missing"] == ["gone"]


def test_a_benchmarks_checkpoint_has_the_same_figures_on_a_csv(movies: Path, runs: list[Path], tmp_path: Path) -> None:
    where = ("--videos", movies / "videos", "--splits", movies)
    benchmark = json.loads(evaluate(movies, runs[0], *where, "--json").stdout)["results"][0]
    result = evaluate(movies, runs[0], "--movies", movies / "movies.csv", "--json", "--plots", tmp_path / "plots")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)["results"][0]
    assert report["labels"] == list(LVU[1])
    assert report["published"] == {}
    for name in ("accuracy", "window_accuracy"):
        assert report["runs"][0][name] == benchmark["runs"][0][name]
    assert report["confusion"] == benchmark["confusion"]
    names = ("movies-confusion.png", "movies-classes.png")
    for name in names:
        assert (tmp_path / "plots" / name).read_bytes()[:4] == b"\x89PNG"
        assert f"wrote {tmp_path / 'plots' / name}\n" in result.stderr


def test_the_order_of_the_classes_does_not_change_the_figures(movies: Path, runs: list[Path], tmp_path: Path) -> None:
    """The second checkpoint is a copy of the first one whose outputs have another order."""
    model = load_checkpoint(runs[0])
    ((name, head),) = model.config.heads.items()
    order = [2, 0, 3, 1]
    labels = tuple(head.labels[i] for i in order)
    permuted = Vis4mer(dataclasses.replace(model.config, heads={name: dataclasses.replace(head, labels=labels)}))
    state = dict(model.state_dict())
    for key in (f"heads.{name}.output.weight", f"heads.{name}.output.bias"):
        state[key] = state[key][order]
    permuted.load_state_dict(state)
    permuted.save_pretrained(tmp_path / "permuted")
    result = evaluate(movies, runs[0], tmp_path / "permuted", "--movies", movies / "movies.csv", "--json")
    assert result.exit_code == 0, result.stderr
    one, other = json.loads(result.stdout)["results"][0]["runs"]
    assert {**other, "checkpoint": "", "seed": 0} == {**one, "checkpoint": ""}


def test_a_cache_of_other_frames_is_refused(movies: Path, runs: list[Path], tmp_path: Path) -> None:
    done = command(
        *("train", movies / "movies.csv", "-o", tmp_path / "run", "--cache", movies / "cache", "--device", "cpu"),
        *(*ENCODER, *HEAD, "--encoder-weights", movies / "encoder.safetensors"),
    )
    assert done.exit_code == 1
    assert "(preprocessing.last_frame is True there and False here)" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_run_as_published_is_marked(movies: Path, runs: list[Path], tmp_path: Path) -> None:
    done = command(
        *("train", movies / "movies.csv", "-o", tmp_path / "run", "--epochs", "1"),
        *("--device", "cpu", "--as-published", *ENCODER, *HEAD, "--encoder-weights", movies / "encoder.safetensors"),
    )
    assert done.exit_code == 0, done.stderr
    record = json.loads((tmp_path / "run" / "best" / "training.json").read_text())
    assert (record["chosen_on"], record["settings"]["schedule"]) == ("test", "plateau")
    result = evaluate(movies, tmp_path / "run" / "best", "--movies", movies / "movies.csv")
    assert "* The epoch was chosen on the test split" in result.stdout
    figures = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    report = json.loads(evaluate(movies, tmp_path / "run" / "best", "--movies", movies / "movies.csv", "--json").stdout)
    assert report["results"][0]["runs"][0]["accuracy"] == figures[0]["val_accuracy"]


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        ("path,label,split\n{a},friends,train\n{b},friends,val\n", "split='test': holds no movie"),
        ("path,label,split\n{a},boss,test\n{b},x,test\n", "line 3: label that is none of the model's 4 classes: 'x'"),
        ("path,value,split\n{a},1,train\n{b},2,val\n{c},3,test\n", "holds the targets of a regression"),
    ],
)
def test_a_data_set_that_does_not_fit_is_a_one_line_error(
    movies: Path, runs: list[Path], tmp_path: Path, listing: str, message: str
) -> None:
    paths = {name: movies / "videos" / f"test{i}.mp4" for i, name in enumerate("abc")}
    (tmp_path / "movies.csv").write_text(listing.format(**paths))
    result = evaluate(movies, runs[0], "--movies", tmp_path / "movies.csv")
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_test_movies_alone_are_a_data_set(movies: Path, runs: list[Path], tmp_path: Path) -> None:
    rows = ["path,label,split", *(f"{movies}/videos/test{i}.mp4,{LVU[1][i]},test" for i in (0, 1))]
    (tmp_path / "two.csv").write_text("\n".join(rows))
    written = tmp_path / "predictions.csv"
    result = evaluate(movies, runs[0], "--movies", tmp_path / "two.csv", "--json", "--predictions", written)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)["results"][0]
    assert report["labels"] == list(LVU[1])
    assert (report["movies"], report["baseline"]) == (2, {"accuracy": 0.5, "prediction": "friends", "split": "test"})
    with written.open() as file:
        predictions = list(csv.DictReader(file))
    assert [row["truth"] for row in predictions] == ["friends", "wife"]
    correct = [row["correct"] == "True" for row in predictions]
    assert sum(correct) / 2 == report["accuracy"]["mean"]
    # All classes of the head compete, not only the two that occur.
    assert all(row["prediction"] in LVU[1] for row in predictions)
    assert np.array(report["confusion"]).shape == (4, 4)
    for row in predictions:
        assert 0.25 <= float(row["probability"]) <= 1
        assert row["correct"] == str(row["truth"] == row["prediction"])
    assert f"wrote {written}" in result.stderr


@pytest.mark.parametrize(
    ("option", "path", "message"),
    [
        ("--plots", "file/plots", "file/plots': the folder cannot be created: Not a directory"),
        (
            "--predictions",
            "gone/predictions.csv",
            "gone/predictions.csv': cannot be written: No such file or directory",
        ),
    ],
)
def test_outputs_are_checked_before_the_work(
    movies: Path, runs: list[Path], tmp_path: Path, option: str, path: str, message: str
) -> None:
    (tmp_path / "file").touch()
    result = evaluate(movies, runs[0], "--movies", tmp_path / "gone.csv", option, tmp_path / path)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--movies", "a.csv", "--videos", "."),
            "--movies cannot be used together with --protocol, --videos or --splits",
        ),
        (("--protocol", "lvu/scene"), "pass --movies, or --videos and --splits of a benchmark"),
        (("--protocol", "lvu/nothing", "--videos", ".", "--splits", "."), "'--protocol': 'lvu/nothing' is not one of"),
        (("--movies", "a.csv", "--predictions", "a.txt"), "'--predictions': a.txt: must end in .csv or .json"),
    ],
)
def test_options_that_do_not_fit_are_usage_errors(arguments: tuple[str, ...], message: str) -> None:
    result = command("eval", "checkpoint", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_cache_of_another_type_is_not_ignored_silently(movies: Path, runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(movies / "cache", tmp_path / "cache")
    arguments = ("--movies", movies / "movies.csv", "--cache", tmp_path / "cache", "--device", "cpu")
    result = command("eval", runs[0], *arguments)
    assert result.stderr == ""
    result = command("eval", runs[0], *arguments, "--cache-dtype", "fp32")
    assert result.exit_code == 0
    assert "the test movies are encoded again" in result.stderr
    assert "dtype is 'bf16' there and 'fp32' here" in result.stderr


def test_a_checkpoint_that_is_named_twice_is_refused(movies: Path, runs: list[Path]) -> None:
    result = evaluate(movies, runs[0], runs[0], "--movies", movies / "movies.csv")
    assert result.exit_code == 1
    assert "is named twice" in result.stderr


def test_too_many_windows_for_the_memory_are_a_one_line_error(
    movies: Path, runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*arguments: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("vis4mer.training.evaluation.checkpoints.predict_windows", out_of_memory)
    result = evaluate(movies, runs[0], "--movies", movies / "movies.csv", "--batch-size", "500")
    assert result.exit_code == 1
    assert "500: cpu has too little memory for this many windows at once; lower it" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_second_checkpoint_is_checked_before_the_first_is_evaluated(
    movies: Path, runs: list[Path], tmp_path: Path
) -> None:
    shutil.copytree(runs[1], tmp_path / "other")
    config = tmp_path / "other" / "config.json"
    config.write_text(config.read_text().replace('"boss"', '"chief"'))
    result = command(
        "eval", runs[0], tmp_path / "other", "--movies", movies / "movies.csv", "--cache", tmp_path / "new"
    )
    assert result.exit_code == 1
    assert "only the data set has the class 'boss' (4 and 4 classes)" in result.stderr
    assert not (tmp_path / "new").exists()


def test_a_terminals_width_is_kept(movies: Path, runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (80, 60, 40):
        monkeypatch.setenv("COLUMNS", str(width))
        result = evaluate(movies, runs[0], "--movies", movies / "movies.csv")
        assert max(map(len, result.stdout.splitlines())) <= width


@pytest.mark.parametrize("record", ['{"settings": ["seed"]}', '{"settings": {"seed": "x"}}', "[" * 10**6])
def test_an_edited_record_of_the_training_is_ignored(
    record: str, movies: Path, runs: list[Path], tmp_path: Path
) -> None:
    shutil.copytree(runs[0], tmp_path / "best")
    (tmp_path / "best" / "training.json").write_text(record)
    result = evaluate(movies, tmp_path / "best", "--movies", movies / "movies.csv", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["results"][0]["runs"][0]["seed"] is None


def test_a_folder_that_is_no_checkpoint_is_named_with_its_remedy(movies: Path, tmp_path: Path) -> None:
    empty, run = tmp_path / "empty", tmp_path / "run"
    for folder in (empty, run / "best"):
        folder.mkdir(parents=True)
    (run / "best" / "config.json").touch()
    result = evaluate(movies, run, "--movies", movies / "movies.csv")
    rule, remedy = "is the folder of a training run, not a model", f"pass its best model, '{run / 'best'}'"
    assert (result.exit_code, result.stderr) == (1, f"vis4mer: error: checkpoint='{run}': {rule}; {remedy}\n")
    result = evaluate(movies, empty, "--movies", movies / "movies.csv")
    assert f"checkpoint='{empty}': holds no config.json; pass a checkpoint folder" in result.stderr


def test_a_checkpoint_without_a_recorded_benchmark_needs_a_data_set(movies: Path, tmp_path: Path) -> None:
    Vis4mer(ModelConfig({"x": HeadConfig(DecoderConfig(4, 8, 2, 4, 1, d_state=4))}, encoder=None)).save_pretrained(
        tmp_path
    )
    result = evaluate(movies, tmp_path, "--videos", movies / "videos", "--splits", movies)
    assert result.exit_code == 1
    assert "names no benchmark; name a benchmark or a CSV of movies" in result.stderr
    result = evaluate(movies, tmp_path, "--movies", movies / "movies.csv")
    assert "holds no encoder" in result.stderr
    assert evaluate(movies, tmp_path).exit_code == 2
    assert evaluate(movies, tmp_path, "--protocol", "lvu/scene").exit_code == 2
