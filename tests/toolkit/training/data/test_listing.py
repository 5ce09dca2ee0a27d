from collections import Counter
from pathlib import Path

import pytest

from vis4mer.config import DecoderConfig, HeadConfig
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


@pytest.mark.parametrize(
    ("name", "message"), [("x" * 5000, "no such video"), ("loop", "no such video"), ("a\0b", "not a text file")]
)
def test_a_video_that_no_file_can_be(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    path = write(tmp_path, f"path,label\na,y\nb,y\n{name},y\n", "a", "b")
    with pytest.raises(DataError, match=message):
        Listing.read(path)
    if "\0" not in name:
        assert len(Listing.read(path, skip_missing=True).missing) == 1


def test_numeric_labels_are_in_numeric_order(tmp_path: Path) -> None:
    text = "path,label,split\na,10,train\nb,9,train\nc,9,val\n"
    assert Listing.read(write(tmp_path, text, "a", "b", "c")).labels == ("9", "10")


def test_the_order_of_labels_does_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    labels = [f"{zero}{number}" for number in range(9) for zero in ("", "0")]
    rows = [f"{label}.mp4,{label},train" for label in labels]
    text = "\n".join(["path,label,split", *rows, "val.mp4,0,val\n"])
    listing = Listing.read(write(tmp_path, text, "val.mp4", *(f"{label}.mp4" for label in labels)))
    assert listing.labels == tuple(sorted(labels, key=lambda label: (int(label), label)))


def test_a_regression_listing(tmp_path: Path) -> None:
    listing = Listing.read(write(tmp_path, "path,value,split\na,-1.5,train\nb,2e-1,val\n", "a", "b"))
    assert (listing.task, listing.labels) == ("regression", ())
    assert [example.target for example in listing.examples] == [-1.5, 0.2]


def head(*labels: str) -> HeadConfig:
    """A trained head with these classes, or a regression."""
    decoder = DecoderConfig(4, 8, max(len(labels), 1), 4, 1, d_state=4)
    return HeadConfig(decoder, "classification", labels) if labels else HeadConfig(decoder, "regression")


def test_test_movies_alone_have_the_classes_of_the_head(tmp_path: Path) -> None:
    text = "path,label,split\na,yes,test\nb,no,test\n"
    listing = Listing.read(write(tmp_path, text, "a", "b"), tested_head=head("yes", "maybe", "no"))
    assert listing.labels == ("yes", "maybe", "no")
    assert [example.target for example in listing.split("test")] == [0, 2]
    listing = Listing.read(write(tmp_path, "path,value,split\na,1.5,test\n", "a"), tested_head=head())
    assert listing.split("test") == (Example(tmp_path / "a", 1.5, "test"),)


@pytest.mark.parametrize(
    ("text", "tested", "message"),
    [
        (
            "path,label,split\na,yes,test\nb,No,test\n",
            head("yes", "no"),
            r"line 3: label that is none of the model's 2 classes: 'No'; ",
        ),
        ("path,value,split\na,1,test\n", head("yes", "no"), "targets of a regression.*classification; .*'label'"),
        ("path,label,split\na,yes,test\n", head(), "targets of a classification.*regression; .*'value'"),
    ],
)
def test_targets_that_do_not_fit_the_head(tmp_path: Path, text: str, tested: HeadConfig, message: str) -> None:
    with pytest.raises(DataError, match=rf"^listing='.*movies.csv'.*{message}") as error:
        Listing.read(write(tmp_path, text, "a", "b"), tested_head=tested)
    assert "\n" not in str(error.value)


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
        ("", "is empty; its first row must name the columns"),
        ("\n \n,,\n", "is empty; its first row must name the columns"),
        ("file,label\na,x\n", "header row must name"),
        ("path,label,value\na,x,1\n", "header row must name"),
        ("path,label\n", "lists no movie: there is no row below the header; add one row per movie"),
        (
            "path,label,split\na,x,train\nmissing,x,val\ngone,x,val\n",
            r"line 3: no such video: '.*/missing' \(also line 4\)",
        ),
        (
            "path,label\n" + "".join(f"gone{i},x\n" for i in range(9)),
            r"line 2: no such video: '.*gone0' \(also lines 3, 4, 5, 6, 7 and 3 more\)",
        ),
        ("path,label\nclips\\a,x\n", r"line 2: no such video: .*; write the folders of a path with '/', not"),
        ("path,label,split\na,x,train\n\n./a,x,val\n", "line 4: listed twice: '.*/a' is in line 2 too; remove one"),
        ("path,label,split\na,x,train\nb,,val\n", "line 3: without a label: 'b'"),
        ("path,label,split\na,x,train\n,x,val\n", "line 3: without a path: ',x,val'"),
        ("path,label,split\na,x,train\nb,y,val\n", "line 3: label that no training movie has: 'y'; correct it, or add"),
        ("path,label,split\na,x,train\nb,x,valid\n", "line 3: split that is none of train, val, test: 'valid'"),
        ("path,label,split\na,x,train\nb,x,\n", "line 3: split that is none of train, val, test: ''"),
        ("path,label\na,b,x\n", "line 2: holds more fields than the header's 2: .*; put a field that contains a comma"),
        ("path;label\na;x\n", "line 1: the fields are separated by semicolons; must be separated by commas; export"),
        ("sep=;\npath;label\na;x\n", "line 1: the fields are separated by semicolons"),
        ("path\tlabel\na\tx\n", "line 1: the fields are separated by tabs"),
        ("path,label,Label\na,x,x\n", "line 1: column 'label' occurs twice; remove one"),
        ("path,label,split\na,x,val\nb,x,val\n", "no movie in split 'train'"),
        ("path,label,split\na,x,train\nb,x,test\n", "no movie in split 'val'"),
        ("path,label\na,x\n", "no movie in split 'val'; val_ratio=0.2 .*or a column 'split'"),
        ("path,label\na,x\nb,y\n", "no movie in split 'val'; val_ratio=0.2 .*or a column 'split'"),
        ("path,value,split\na,1,train\nb,nan,val\n", "line 3: value that is not a finite number: 'nan'"),
        ("path,value,split\na,1,train\nb,many,val\n", "line 3: value that is not a finite number: 'many'"),
        ('path,value\na,"0,5"\nb,1\n', "line 2: value .*: '0,5'; write a decimal point instead of the comma"),
        ('path,label\n"a,x\n', "line 2: cannot be read as a table .*; close every double quote"),
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
    with pytest.raises(DataError, match="cannot be read as a table: it is not a text file"):
        Listing.read(path)


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("cp1252", "line 3: byte 0xe9 is not UTF-8; the file is probably Windows-1252, where it means 'é'; save it in"),
        ("utf-16", "is encoded in UTF-16, not in UTF-8; save it in UTF-8, which Excel calls 'CSV UTF-8'"),
    ],
)
def test_another_encoding_is_named(tmp_path: Path, encoding: str, message: str) -> None:
    (tmp_path / "movies.csv").write_text("path,label\na,x\nb,é\n", encoding=encoding)
    with pytest.raises(DataError, match=message):
        Listing.read(tmp_path / "movies.csv")


def test_the_habits_of_spreadsheets_are_accepted(tmp_path: Path) -> None:
    """A byte order mark, a line with the separator, capitals, blanks, empty columns and rows, carriage returns."""
    rows = ["sep=,", " Path ,LABEL, Split,,", "a, x ,Train,,", "b,y,TRAIN,,", ",,,,", "", "c,x,val,,", ",,,,"]
    path = write(tmp_path, "", "a", "b", "c")
    path.write_bytes("\r\n".join(rows).encode("utf-8-sig"))
    listing = Listing.read(path)
    assert listing.labels == ("x", "y")
    assert [(example.video.name, example.target, example.split) for example in listing.examples] == [
        ("a", 0, "train"),
        ("b", 1, "train"),
        ("c", 0, "val"),
    ]


def test_labels_that_look_alike_are_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "path,label,split\na,Dark,train\nb,dark,train\nc,dark,val\n"
    Listing.read(write(tmp_path, text, "a", "b", "c"))
    assert caplog.messages == ["movies.csv: the labels 'Dark' and 'dark' are different classes"]


def test_missing_videos_can_be_left_out(tmp_path: Path) -> None:
    text = "path,label,split\na,x,train\ngone,x,train\nb,y,train\nc,y,val\nlost,y,val\n"
    listing = Listing.read(write(tmp_path, text, "a", "b", "c"), skip_missing=True)
    assert [example.video.name for example in listing.examples] == ["a", "b", "c"]
    assert (listing.missing_names("train"), listing.missing_names("val")) == (("gone",), ("lost",))
    (tmp_path / "b").unlink()
    with pytest.raises(DataError, match="line 4: label that no training movie has: 'y'"):
        Listing.read(tmp_path / "movies.csv", skip_missing=True)


def test_missing_videos_do_not_move_the_others_between_drawn_splits(tmp_path: Path) -> None:
    names = [f"v{i}" for i in range(20)]
    path = write(tmp_path, "path,label\n" + "".join(f"{name},x\n" for name in names), *names)
    before = {example.video: example.split for example in Listing.read(path).examples}
    for name in names[:3]:
        (tmp_path / name).unlink()
    after = {example.video: example.split for example in Listing.read(path, skip_missing=True).examples}
    assert len(after) == 17
    assert after.items() <= before.items()


@pytest.mark.parametrize("ratio", [0, 1, -0.1, float("nan")])
def test_a_validation_ratio_outside_its_range(tmp_path: Path, ratio: float) -> None:
    with pytest.raises(DataError, match="val_ratio"):
        Listing.read(write(tmp_path, "path,label\na,x\nb,x\n", "a", "b"), val_ratio=ratio)
