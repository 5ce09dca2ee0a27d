from collections import Counter
from pathlib import Path

import pytest

from vis4mer.errors import DataError
from vis4mer.training.data.listing import Example, Listing


def write(folder: Path, text: str, *videos: str) -> Path:
    for name in videos:
        (folder / name).touch()
    path = folder / "movies.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_classification_listing(tmp_path: Path) -> None:
    rows = ["path,label,gap,split", "a b.mp4,yes,3,train", '"c,d.mp4",no,4,train', f"{tmp_path}/é.mp4,yes,5,val"]
    text = "\n".join([*rows, "x.mp4,no,6,test"])
    listing = Listing.read(write(tmp_path, text, "a b.mp4", "c,d.mp4", "é.mp4", "x.mp4"))
    assert (listing.task, listing.labels) == ("classification", ("no", "yes"))
    assert listing.split("train") == (
        Example(tmp_path / "a b.mp4", 1, "train"),
        Example(tmp_path / "c,d.mp4", 0, "train"),
    )
    assert listing.split("val") == (Example(tmp_path / "é.mp4", 1, "val"),)
    assert listing.split("test") == (Example(tmp_path / "x.mp4", 0, "test"),)


def test_a_path_that_no_file_can_have_is_a_data_error() -> None:
    for name in ("a\0b.csv", "a\ud800b.csv"):
        with pytest.raises(DataError, match=r"listing='a.*b.csv': cannot be read as a table"):
            Listing.read(Path(name))


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "loop"])
def test_a_video_that_no_file_can_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DataError, match="no such video"):
        Listing.read(write(tmp_path, f"path,label\n{name},y\n"))


def test_numeric_labels_are_in_numeric_order(tmp_path: Path) -> None:
    text = "path,label,split\na,10,train\nb,9,train\nc,9,val\n"
    assert Listing.read(write(tmp_path, text, "a", "b", "c")).labels == ("9", "10")


def test_a_regression_listing(tmp_path: Path) -> None:
    listing = Listing.read(write(tmp_path, "path,value,split\na,-1.5,train\nb,2e-1,val\n", "a", "b"))
    assert (listing.task, listing.labels) == ("regression", ())
    assert [example.target for example in listing.examples] == [-1.5, 0.2]


def test_a_drawn_validation_split_is_seeded_and_even_over_the_labels(tmp_path: Path) -> None:
    names = [f"v{i}" for i in range(60)]
    text = "path,label\n" + "".join(f"{name},{'abc'[i % 3]}\n" for i, name in enumerate(names))
    path = write(tmp_path, text, *names)
    first, again, other = (Listing.read(path, val_ratio=0.25, seed=seed) for seed in (1, 1, 2))
    assert Counter(example.target for example in first.split("val")) == {0: 5, 1: 5, 2: 5}
    assert len(first.split("train")) == 45
    assert first == again != other


@pytest.mark.parametrize("ratio", [0.01, 0.2, 0.34, 0.5, 0.99])
@pytest.mark.parametrize("counts", [(2,), (2, 1), (1, 1, 1, 2), (3, 5, 1), (4,) * 10, (100, 2)])
def test_a_drawn_split_trains_every_label_and_validates_something(
    tmp_path: Path, counts: tuple[int, ...], ratio: float
) -> None:
    labels = [label for label, count in zip("abcdefghij", counts, strict=False) for _ in range(count)]
    text = "path,label\n" + "".join(f"v{i},{label}\n" for i, label in enumerate(labels))
    listing = Listing.read(write(tmp_path, text, *(f"v{i}" for i in range(len(labels)))), val_ratio=ratio)
    trained = Counter(example.target for example in listing.split("train"))
    validated = Counter(example.target for example in listing.split("val"))
    assert set(trained) == set(range(len(counts)))
    assert validated
    assert trained + validated == Counter(dict(enumerate(counts)))
    assert len(listing.split("val")) == min(max(1, round(ratio * len(labels))), len(labels) - len(counts))


def test_a_drawn_split_of_values_spreads_over_their_range(tmp_path: Path) -> None:
    text = "path,value\n" + "".join(f"v{i},{i}\n" for i in range(100))
    listing = Listing.read(write(tmp_path, text, *(f"v{i}" for i in range(100))), val_ratio=0.1)
    assert [int(example.target // 10) for example in listing.split("val")] == list(range(10))


def test_one_of_two_values_is_held_out(tmp_path: Path) -> None:
    listing = Listing.read(write(tmp_path, "path,value\na,1\nb,2\n", "a", "b"))
    assert (len(listing.split("train")), len(listing.split("val"))) == (1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "header row must name"),
        ("file,label\na,x\n", "header row must name"),
        ("path,label,value\na,x,1\n", "header row must name"),
        ("path,label\n", "no movie in split 'train'"),
        ("path,label,split\na,x,train\nmissing,x,val\ngone,x,val\n", r"no such video: .*missing.*\(2 in all\)"),
        ("path,label,split\na,x,train\n./a,x,val\n", r"listed twice: .*/a.*\(1 in all\)"),
        ("path,label,split\na,x,train\nb,,val\n", "without a label"),
        ("path,label,split\na,x,train\nb,y,val\n", "label that no training movie has: 'y'"),
        ("path,label,split\na,x,train\nb,x,valid\n", "split that is none of train, val, test: 'valid'"),
        ("path,label,split\na,x,val\nb,x,val\n", "no movie in split 'train'"),
        ("path,label,split\na,x,train\nb,x,test\n", "no movie in split 'val'"),
        ("path,label\na,x\n", "no movie in split 'val'; val_ratio=0.2 .*or a column 'split'"),
        ("path,label\na,x\nb,y\n", "no movie in split 'val'; val_ratio=0.2 .*or a column 'split'"),
        ("path,value,split\na,1,train\nb,nan,val\n", "not a finite number: 'nan'"),
        ("path,value,split\na,1,train\nb,many,val\n", "not a finite number: 'many'"),
        ('path,label\n"a,x\n', "cannot be read as a table"),
    ],
)
def test_a_mistake_is_one_line_that_quotes_the_first_offender(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text, "a", "b")
    with pytest.raises(DataError, match=message) as error:
        Listing.read(path)
    assert "movies.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_listing_that_is_missing_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        Listing.read(tmp_path / "nowhere.csv")
    path = tmp_path / "movie.csv"
    path.write_bytes(b"\x00\xff\xfe\x80")
    with pytest.raises(DataError, match="cannot be read"):
        Listing.read(path)


@pytest.mark.parametrize("ratio", [0, 1, -0.1, float("nan")])
def test_a_validation_ratio_outside_its_range(tmp_path: Path, ratio: float) -> None:
    with pytest.raises(DataError, match="val_ratio"):
        Listing.read(write(tmp_path, "path,label\na,x\nb,x\n", "a", "b"), val_ratio=ratio)
