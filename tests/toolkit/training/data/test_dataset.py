"""The movies of a training run, and the data sets that training refuses."""

from pathlib import Path

import pytest

from vis4mer.errors import DataError
from vis4mer.training.data.dataset import TrainingPlan, plan_training
from vis4mer.training.settings import DataSettings, TrainSettings


def plan(folder: Path, *rows: str, target: str = "label", skip_unreadable: bool = False) -> TrainingPlan:
    """Plans a run on movies that are listed as ``NAME,TARGET,SPLIT``; a name that starts with ``gone`` has no file."""
    for row in rows:
        name = row.partition(",")[0]
        if not name.startswith("gone"):
            (folder / name).touch()
    (folder / "movies.csv").write_text("\n".join([f"path,{target},split", *rows]))
    return plan_training(TrainSettings(DataSettings(folder / "movies.csv", skip_unreadable=skip_unreadable)))


@pytest.mark.parametrize(
    ("target", "rows", "held"),
    [
        ("label", ["a,cat,train", "b,cat,train", "c,cat,val"], r"the label 'cat' \(2 movies\)"),
        ("label", ["a,cat,train", "c,cat,val"], r"the label 'cat' \(1 movie\)"),
        ("value", ["a,2.5,train", "b,2.5,train", "c,1,val"], r"the value 2.5 \(2 movies\)"),
    ],
)
def test_movies_with_a_single_target_are_refused(tmp_path: Path, target: str, rows: list[str], held: str) -> None:
    with pytest.raises(DataError, match=f"split='train': holds only {held}; training needs at least two; add other"):
        plan(tmp_path, *rows, target=target)


def test_a_validation_split_of_one_label_is_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan(tmp_path, "a,cat,train", "b,dog,train", "c,dog,val")
    (message,) = caplog.messages
    assert message == "movies.csv: split val holds only the label 'dog', so it hardly shows which epoch is best"
    caplog.clear()
    plan(tmp_path, "a,cat,train", "b,dog,train", "c,dog,val", "d,cat,val")
    plan(tmp_path, "a,1,train", "b,2,train", "c,3,val", target="value")
    assert caplog.messages == []


def test_a_benchmarks_label_without_training_movies_is_mentioned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "scene").mkdir()
    for split, rows in (
        ("train", ["0 office a", "1 jail b", "2 gym gone"]),
        ("val", ["2 gym c", "1 jail d"]),
        ("test", ["0 office e"]),
    ):
        (tmp_path / "scene" / f"{split}.csv").write_text("\n".join(["class_id class_name youtube_id", *rows]))
    for name in "abcde":
        (tmp_path / f"{name}.mp4").touch()
    plan_training(TrainSettings.published("lvu/scene", videos=tmp_path, splits=tmp_path))
    assert caplog.messages == ["lvu/scene: split val has the label 'gym', which no training movie has"]


def test_movies_that_cannot_be_read_leave_the_plan(tmp_path: Path) -> None:
    found = plan(tmp_path, "a,cat,train", "b,dog,train", "c,dog,train", "d,dog,val", "e,cat,val")
    assert found.without(()) is found
    smaller = found.without({found.train[1], found.val[1]})
    assert [example.video.name for example in smaller.train + smaller.val] == ["a", "c", "d"]
    with pytest.raises(DataError, match="label='cat': none of its training movies can be read; replace them"):
        found.without({found.train[0]})
    with pytest.raises(DataError, match="split='val': none of its 2 movies can be read"):
        found.without(found.val)
    values = plan(tmp_path, "a,1,train", "b,2,train", "c,2,train", "d,3,val", target="value")
    with pytest.raises(DataError, match=r"holds only the value 2 \(2 movies\)"):
        values.without({values.train[0]})


def test_missing_movies_are_left_out_only_on_request(tmp_path: Path) -> None:
    rows = ["a,cat,train", "gone1,dog,train", "b,dog,train", "c,dog,val", "gone2,cat,val"]
    with pytest.raises(DataError, match=r"line 3: no such video: '.*gone1' \(also line 6\)"):
        plan(tmp_path, *rows)
    found = plan(tmp_path, *rows, skip_unreadable=True)
    assert [example.video.name for example in found.train + found.val] == ["a", "b", "c"]
    assert found.data.listing.missing_names("train") == ("gone1",)
