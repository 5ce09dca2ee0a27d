import json
import math
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result

from vis4mer.cli.main import main
from vis4mer.config import DecoderConfig, HeadConfig, ModelConfig
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
    for text in ("lvu/relationship", "53.10", "57.14", "62.50", "4 of 5"):
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


def test_the_order_of_the_classes_does_not_change_the_figures(movies: Path, runs: list[Path], tmp_path: Path) -> None:
    """The CSV's classes are sorted, the benchmark's are not."""
    where = ("--videos", movies / "videos", "--splits", movies)
    benchmark = json.loads(evaluate(movies, runs[0], *where, "--json").stdout)["results"][0]
    result = evaluate(movies, runs[0], "--movies", movies / "movies.csv", "--json", "--plots", tmp_path / "plots")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)["results"][0]
    assert report["labels"] == sorted(LVU[1])
    assert report["published"] == {}
    for name in ("accuracy", "window_accuracy"):
        assert report["runs"][0][name] == benchmark["runs"][0][name]
    order = [LVU[1].index(label) for label in report["labels"]]
    assert report["confusion"] == np.array(benchmark["confusion"])[np.ix_(order, order)].tolist()
    pictures = sorted(path.read_bytes()[:4] for path in (tmp_path / "plots").iterdir())
    assert pictures == [b"\x89PNG"] * 2


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
        ("path,label,split\n{a},x,train\n{b},x,val\n{c},x,test\n", "only the checkpoint has the class 'boss' (4 and 1"),
        ("path,value,split\n{a},1,train\n{b},2,val\n{c},3,test\n", "but the data set is a regression"),
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


@pytest.mark.parametrize("record", ['{"settings": ["seed"]}', '{"settings": {"seed": "x"}}', "[" * 10**6])
def test_an_edited_record_of_the_training_is_ignored(
    record: str, movies: Path, runs: list[Path], tmp_path: Path
) -> None:
    shutil.copytree(runs[0], tmp_path / "best")
    (tmp_path / "best" / "training.json").write_text(record)
    result = evaluate(movies, tmp_path / "best", "--movies", movies / "movies.csv", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["results"][0]["runs"][0]["seed"] is None


def test_a_checkpoint_without_a_recorded_benchmark_needs_a_data_set(movies: Path, tmp_path: Path) -> None:
    Vis4mer(ModelConfig({"x": HeadConfig(DecoderConfig(4, 8, 2, 4, 1, d_state=4))}, encoder=None)).save_pretrained(
        tmp_path
    )
    result = evaluate(movies, tmp_path, "--videos", movies / "videos", "--splits", movies)
    assert result.exit_code == 1
    assert "names no benchmark; pass a protocol or a CSV of movies" in result.stderr
    result = evaluate(movies, tmp_path, "--movies", movies / "movies.csv")
    assert "holds no encoder" in result.stderr
    assert evaluate(movies, tmp_path).exit_code == 2
    assert evaluate(movies, tmp_path, "--protocol", "lvu/scene").exit_code == 2
