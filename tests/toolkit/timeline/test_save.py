import base64
import dataclasses
import hashlib
import html.parser
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vis4mer
from tests.toolkit.predictions import made_up
from vis4mer.colours import LIGHT
from vis4mer.config import DecoderConfig, HeadConfig
from vis4mer.errors import ConfigError, VideoError, Vis4merError
from vis4mer.runtime.aggregation import Aggregator
from vis4mer.runtime.prediction import HeadPrediction, Prediction
from vis4mer.timeline import save_timeline
from vis4mer.timeline.captions import captions
from vis4mer.timeline.fonts import text_width
from vis4mer.video import scan
from vis4mer.video.frames import Damage


class Page(html.parser.HTMLParser):
    """Elements of a page as (tag, attributes), and the text inside of each kind of element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.setdefault(self._open, []).append(data)

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


WIDTHS = (360, 640, 1120)


def read(path: Path, width: int = 1120) -> Page:
    """Reads a page as a browser shows it in a window as wide as the drawing of that width."""
    text = path.read_text()
    for other in set(WIDTHS) - {width}:
        text = re.sub(rf'<svg [^>]*class="width-{other}".*?</svg>', "", text, flags=re.DOTALL)
    return Page(text)


def decoder(d_output: int) -> DecoderConfig:
    return DecoderConfig(d_input=8, l_max=240, d_output=d_output, d_model=8, n_layers=1)


def aggregate(head: HeadConfig, spans: list[tuple[float, float]], logits: np.ndarray) -> HeadPrediction:
    aggregator = Aggregator("head", head)
    for (start, end), row in zip(spans, logits, strict=True):
        aggregator.add(start, end, row)
    return aggregator.prediction()


def predict(
    video: Path,
    n_labels: int,
    spans: list[tuple[float, float]],
    labels: tuple[str, ...] = (),
    bundle: str = "bundle",
    **facts: Any,
) -> Prediction:
    logits = np.linspace(0, 4, len(spans) * n_labels).reshape(len(spans), n_labels) % 3
    heads = {
        "genre": aggregate(HeadConfig(decoder(n_labels), labels=labels), spans, logits),
        "likes": aggregate(HeadConfig(decoder(1), task="regression"), spans, logits[:, :1]),
    }
    basis = made_up(heads, video=str(video), duration=max(12.0, spans[-1][1]), frames=12, bundle=bundle)
    return dataclasses.replace(basis, **facts)


SPANS = [(float(start), float(start + 5)) for start in range(8)]


def test_the_page_shows_every_head_every_label_and_every_window(movie: Path, tmp_path: Path) -> None:
    prediction = predict(movie, 3, SPANS, ("action", "comedy", "romance"))
    save_timeline(prediction, tmp_path / "timeline.html")
    page = read(tmp_path / "timeline.html")
    texts = page.texts["text"]
    for text in ("movie.mkv", "genre", "likes", "action", "comedy", "romance", "0:00", "0:12", "0%", "100%"):
        assert text in texts
    for probability in prediction.probabilities.values():
        assert f"{probability:.1%}" in texts
    assert any("5 s long, one every 1 s" in text for text in texts)
    data = json.loads(page.texts["script"][0])
    assert [(group["start"], group["end"], group["count"]) for group in data["groups"]] == [(*s, 1) for s in SPANS]
    values = {line["label"]: line["mean"] for line in data["plots"][0]["lines"]}
    for index, label in enumerate(("action", "comedy", "romance")):
        assert values[label] == pytest.approx([w.probabilities[index] for w in prediction.windows], abs=1e-3)
    assert data["plots"][1]["lines"][0]["mean"] == pytest.approx(
        [w.value for w in prediction.heads["likes"].windows], abs=1e-3
    )


def test_curves_pass_through_their_values(movie: Path, tmp_path: Path) -> None:
    prediction = predict(movie, 2, SPANS)
    save_timeline(prediction, tmp_path / "timeline.html")
    page = read(tmp_path / "timeline.html")
    place = json.loads(page.texts["script"][0])["places"][-1]
    best = max(range(2), key=lambda i: list(prediction.probabilities.values())[i])
    solid = [a for a in page.all("polyline") if a["stroke"] == "var(--line0)" and "stroke-dasharray" not in a]
    points = [tuple(map(float, point.split(","))) for point in str(solid[0]["points"]).split()]
    expected = [
        (
            place["x"] + place["width"] * (window.start + window.end) / 2 / 12,
            place["tops"][0] + place["height"] * (1 - window.probabilities[best]),
        )
        for window in prediction.windows
    ]
    np.testing.assert_allclose(points, expected, atol=0.01)


def test_the_thumbnails_are_the_movie_in_order(movie: Path, tmp_path: Path) -> None:
    save_timeline(predict(movie, 2, SPANS), tmp_path / "timeline.html")
    images = read(tmp_path / "timeline.html").all("image")
    assert len(images) >= 4
    for i, image in enumerate(images):
        data = base64.b64decode(str(image["href"]).removeprefix("data:image/jpeg;base64,"))
        pixels = np.asarray(Image.open(io.BytesIO(data)))
        second = int((i + 0.5) / len(images) * 12)
        np.testing.assert_allclose(pixels.mean(axis=(0, 1)), [250 - 20 * second, 10, 5 + 20 * second], atol=8)
    lefts = [float(str(image["x"])) for image in images]
    assert lefts == sorted(lefts)


def test_the_page_loads_nothing_and_runs_only_its_own_script(movie: Path, tmp_path: Path) -> None:
    save_timeline(predict(movie, 2, SPANS), tmp_path / "timeline.html")
    page = read(tmp_path / "timeline.html")
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.texts["script"][1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    links = [value for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href")]
    assert all(str(link).startswith("data:") for link in links)


def test_hostile_names_stay_text(make_video: Any, tmp_path: Path) -> None:
    name = "<script>alert(1)<!--\x1b[2J\n\u202e'\"&\udcff.mkv"
    video = make_video(tmp_path / name, [(9, 9, 9)] * 12)
    label = "</script><img src=x onerror=alert(1)>"
    save_timeline(predict(video, 2, SPANS, (label, "other")), tmp_path / "timeline.html")
    page = read(tmp_path / "timeline.html")
    assert len(page.all("script")) == 2
    assert not page.all("img")
    assert page.texts["title"] == ["<script>alert(1)<!--\\x1b[2J\\n\\u202e'\"&\\udcff.mkv"]
    assert label in [line["label"] for line in json.loads(page.texts["script"][0])["plots"][0]["lines"]]
    save_timeline(predict(video, 2, SPANS, (label, "other")), tmp_path / "timeline.png")


def test_the_most_probable_of_many_labels_are_drawn(movie: Path, tmp_path: Path) -> None:
    prediction = predict(movie, 40, SPANS)
    save_timeline(prediction, tmp_path / "timeline.html")
    page = read(tmp_path / "timeline.html")
    lines = json.loads(page.texts["script"][0])["plots"][0]["lines"]
    ranked = sorted(prediction.probabilities, key=lambda label: -prediction.probabilities[label])
    assert [line["label"] for line in lines] == ranked[:6]
    rest = sum(prediction.probabilities[label] for label in ranked[6:])
    assert page.texts["text"][page.texts["text"].index("34 more") + 1] == f"{rest:.1%}"


def test_a_single_window_is_one_level_line(movie: Path, tmp_path: Path) -> None:
    save_timeline(predict(movie, 2, [(0.0, 12.0)]), tmp_path / "timeline.html")
    page = read(tmp_path / "timeline.html")
    assert any("one window" in text for text in page.texts["text"])
    place = json.loads(page.texts["script"][0])["places"][-1]
    for attributes in page.all("polyline"):
        if str(attributes["stroke"]).startswith("var(--line"):
            (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in str(attributes["points"]).split())
            assert (x0, x1, y0) == (place["x"], place["x"] + place["width"], y1)


def test_the_model_is_named_so_that_it_can_be_told_from_others(
    movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("there", "runs/scene/best", "exports/scene"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "runs" / "scene" / "best" / "config.json").touch()
    (tmp_path / "runs" / "scene" / "old.pt").touch()
    (tmp_path / "exports" / "scene" / "manifest.json").touch()
    monkeypatch.setattr("vis4mer.timeline.captions.sample_bundle", lambda: tmp_path / "there")
    monkeypatch.chdir(tmp_path / "runs" / "scene")
    for bundle, name in (
        (tmp_path / "there", "the sample bundle"),
        (tmp_path / "gone", "gone"),
        (tmp_path / "exports" / "scene", "scene"),
        (tmp_path / "runs" / "scene" / "best", "scene/best"),
        (Path("best"), "scene/best"),
        (Path("old.pt"), "scene/old.pt"),
    ):
        save_timeline(predict(movie, 2, SPANS, bundle=str(bundle)), tmp_path / "timeline.html")
        texts = read(tmp_path / "timeline.html").texts["text"]
        assert f"Model: {name}, on cpu; video decoded by pyav." in texts


def test_the_png_is_sharp_and_shows_curves_and_thumbnails(movie: Path, tmp_path: Path) -> None:
    save_timeline(predict(movie, 2, SPANS), tmp_path / "timeline.png")
    image = Image.open(tmp_path / "timeline.png")
    assert image.width == 2240
    colours = {pixel for _, pixel in image.getcolors(1 << 24)}
    for name in ("surface", "line0", "line1"):
        assert tuple(bytes.fromhex(LIGHT[name][1:])) in colours
    first_thumbnail = np.asarray(image)[2 * 100 : 2 * 150, 2 * 90 : 2 * 120]
    np.testing.assert_allclose(first_thumbnail.mean(axis=(0, 1)), [230, 10, 25], atol=25)


@pytest.mark.parametrize("n_frames", [1, 2])
def test_the_shortest_movies_have_a_timeline(tiny_bundle: Path, make_video: Any, tmp_path: Path, n_frames: int) -> None:
    video = make_video(tmp_path / "short.mkv", [(1, 2, 3)] * n_frames)
    prediction = vis4mer.load(tiny_bundle, device="cpu")(video)
    for suffix in ("png", "html"):
        save_timeline(prediction, tmp_path / f"timeline.{suffix}")
        assert (tmp_path / f"timeline.{suffix}").stat().st_size > 1000
    texts = read(tmp_path / "timeline.html").texts["text"]
    assert any("padded with zeros" in text for text in texts)


def test_doubts_about_the_movie_come_first_in_the_captions(movie: Path, tmp_path: Path) -> None:
    prediction = dataclasses.replace(predict(movie, 2, SPANS), notes=("every frame is black",))
    assert next(captions(prediction, 1)) == "Every frame is black."
    save_timeline(prediction, tmp_path / "timeline.html")
    assert "Every frame is black." in read(tmp_path / "timeline.html").texts["text"]


def test_errors_are_one_line(movie: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.png or \.html"):
        save_timeline(predict(movie, 2, SPANS), tmp_path / "timeline.jpg")
    with pytest.raises(Vis4merError, match="cannot be written: No such file or directory"):
        save_timeline(predict(movie, 2, SPANS), tmp_path / "nowhere" / "timeline.png")
    with pytest.raises(VideoError):
        save_timeline(predict(tmp_path / "gone.mkv", 2, SPANS), tmp_path / "timeline.png")


def test_a_scanned_movie_is_not_scanned_again(movie: Path, tmp_path: Path, scans: list[str]) -> None:
    save_timeline(predict(movie, 2, SPANS), tmp_path / "from_path.png")
    assert scans == [str(movie)]
    scanned = scan(movie)
    scans.clear()
    save_timeline(predict(movie, 2, SPANS), tmp_path / "from_scan.png", scanned)
    assert scans == []
    assert (tmp_path / "from_scan.png").read_bytes() == (tmp_path / "from_path.png").read_bytes()


LONG_SPANS = [(float(start), float(start + 60)) for start in range(7141)]


def points(attributes: dict[str, str | None]) -> np.ndarray:
    return np.array([tuple(map(float, point.split(","))) for point in str(attributes["points"]).split()])


@pytest.mark.parametrize("width", WIDTHS)
def test_a_long_movie_is_an_envelope_around_the_mean(movie: Path, tmp_path: Path, width: int) -> None:
    rng = np.random.default_rng(0)
    values = 5 + np.sin(np.linspace(0, 9, 7141)) + rng.normal(0, 0.4, 7141)
    head = HeadConfig(decoder(1), task="regression")
    prediction = predict(movie, 2, LONG_SPANS, heads={"likes": aggregate(head, LONG_SPANS, values[:, None])})
    save_timeline(prediction, tmp_path / "timeline.html")
    page = read(tmp_path / "timeline.html", width)
    data = json.loads(page.texts["script"][0])
    place, plot = data["places"][WIDTHS.index(width)], data["plots"][0]
    (line,) = (points(a) for a in page.all("polyline") if a["stroke"] == "var(--line0)" and "stroke-dasharray" not in a)
    (band,) = (points(a) for a in page.all("polygon") if a["fill"] == "var(--line0)")
    assert len(line) <= place["width"] / 4 + 1, "at least four pixels for each point"
    size = next(size for size in range(2, 7141) if -(-7141 // size) == len(line))
    groups = [values[i : i + size] for i in range(0, 7141, size)]

    def y(value: Any) -> Any:
        return place["tops"][0] + place["height"] * (plot["high"] - np.array(value)) / (plot["high"] - plot["low"])

    np.testing.assert_allclose(line[:, 1], y([g.mean() for g in groups]), atol=0.02)
    np.testing.assert_allclose(band[: len(line), 1], y([g.max() for g in groups]), atol=0.02)
    np.testing.assert_allclose(band[: -len(line) - 1 : -1, 1], y([g.min() for g in groups]), atol=0.02)
    np.testing.assert_allclose(band[: len(line), 0], line[:, 0])
    assert f"stands for {size} windows: the line is their mean" in " ".join(page.texts["text"])


def test_the_readout_of_a_long_movie_has_mean_lowest_and_highest_value(movie: Path, tmp_path: Path) -> None:
    prediction = predict(movie, 3, LONG_SPANS)
    save_timeline(prediction, tmp_path / "timeline.html")
    data = json.loads(read(tmp_path / "timeline.html").texts["script"][0])
    assert sum(group["count"] for group in data["groups"]) == 7141
    assert len(data["groups"]) < 300
    size = data["groups"][0]["count"]
    labels = list(prediction.probabilities)
    for line in data["plots"][0]["lines"]:
        values = [window.probabilities[labels.index(line["label"])] for window in prediction.windows]
        groups = [values[i : i + size] for i in range(0, 7141, size)]
        assert line["low"] == pytest.approx([min(g) for g in groups], abs=1e-3)
        assert line["mean"] == pytest.approx([float(np.mean(g)) for g in groups], abs=1e-3)
        assert line["high"] == pytest.approx([max(g) for g in groups], abs=1e-3)


def test_a_day_of_film_makes_a_small_page(movie: Path, tmp_path: Path) -> None:
    spans = [(float(start), float(start + 60)) for start in range(86341)]
    save_timeline(predict(movie, 6, spans), tmp_path / "timeline.html")
    assert (tmp_path / "timeline.html").stat().st_size < 300_000


def test_the_browser_shows_one_drawing_at_any_width(movie: Path, tmp_path: Path) -> None:
    save_timeline(predict(movie, 2, SPANS), tmp_path / "timeline.html")
    page = Page((tmp_path / "timeline.html").read_text())
    assert [svg["viewbox"].split()[2] for svg in page.all("svg")] == ["360", "640", "1120"]
    style = page.texts["style"][0]
    hidden = re.findall(r"@media \(width (<|>=) ([\d.]+)px\) \{ \.width-(\d+) \{ display: none; \} \}", style)
    for window in (320, 400, 595, 596, 1000, 1041, 1042, 2000):
        shown = set(WIDTHS) - {int(w) for sign, px, w in hidden if (window < float(px)) == (sign == "<")}
        (width,) = shown
        assert width <= window * 1.13, "letters of 13 pixels stay readable"


@pytest.mark.parametrize("width", WIDTHS)
def test_no_text_leaves_its_page(make_video: Any, tmp_path: Path, width: int) -> None:
    name = "Größe & Übermut (Straße nach Łódź) " + "ein sehr langer Name " * 8 + "S01E02.mkv"
    video = make_video(tmp_path / name, [(9, 9, 9)] * 12)
    labels = ("Dokumentarfilm über die Natur der Alpen (Österreich)", "w" * 200, "Комедия " * 12, "x", "y")
    damage = Damage(corrupt_packets=3, corrupt_frames=12, missing_frames=4, truncated=True)
    prediction = predict(video, 5, SPANS, labels, bundle=f"/{'deep' * 40}", damage=damage, frames=1)
    save_timeline(prediction, tmp_path / "timeline.html")
    page = read(tmp_path / "timeline.html", width)
    (svg,) = page.all("svg")
    height = float(str(svg["viewbox"]).split()[3])
    starts = {"start": 0.0, "middle": 0.5, "end": 1.0}
    for attributes, text in zip(page.all("text"), page.texts["text"], strict=True):
        size, bold = float(str(attributes["font-size"])), "font-weight" in attributes
        assert size >= 13
        length = text_width(text, size, bold)
        left = float(str(attributes["x"])) - starts[str(attributes["text-anchor"])] * length
        assert left >= 0 and left + length <= width, text
        assert 0 < float(str(attributes["y"])) < height
    text = " ".join(page.texts["text"])
    for fact in (*damage.notes, "1 frame seen", "5 s long, one every 1 s", "Österreich"):
        assert all(word in text for word in fact.split()), fact


@pytest.mark.parametrize("width", WIDTHS)
def test_values_are_beside_their_labels(movie: Path, tmp_path: Path, width: int) -> None:
    prediction = predict(movie, 3, SPANS, ("a", "comedy", "romance"))
    save_timeline(prediction, tmp_path / "timeline.html")
    page = read(tmp_path / "timeline.html", width)
    texts = dict(zip(page.texts["text"], page.all("text"), strict=True))
    longest = max(text_width(label, 13, True) for label in ("comedy", "romance"))
    for label, probability in prediction.probabilities.items():
        start, end = float(str(texts[label]["x"])), float(str(texts[f"{probability:.1%}"]["x"]))
        assert texts[label]["y"] == texts[f"{probability:.1%}"]["y"]
        assert end - start < 1.2 * (longest + text_width("50.0%", 13, True)) + 20


def test_labels_are_whole_where_there_is_room(movie: Path, tmp_path: Path) -> None:
    labels = ("Dokumentarfilm über die Natur der Alpen", "Historical drama (black and white)")
    save_timeline(predict(movie, 2, SPANS, labels), tmp_path / "timeline.html")
    assert set(labels) <= set(read(tmp_path / "timeline.html").texts["text"])


def test_a_regression_head_has_no_area_and_no_legend(movie: Path, tmp_path: Path) -> None:
    prediction = predict(movie, 2, SPANS)
    heads = {"likes": prediction.heads["likes"]}
    save_timeline(dataclasses.replace(prediction, heads=heads), tmp_path / "timeline.html")
    page = read(tmp_path / "timeline.html")
    assert "var(--line0)" not in [a["fill"] for a in page.all("polygon")]
    assert not page.all("circle")
    place = json.loads(page.texts["script"][0])["places"][-1]
    assert place["x"] + place["width"] == 1120 - 32, "the plot extends to where a legend would be"


def test_thumbnails_of_a_still_film_are_one(make_video: Any, tmp_path: Path) -> None:
    video = make_video(tmp_path / "still.mkv", [(0, 0, 0)] * 12)
    save_timeline(predict(video, 2, SPANS), tmp_path / "timeline.html")
    for width in WIDTHS:
        page = read(tmp_path / "timeline.html", width)
        assert len(page.all("image")) == 1
        assert page.texts["text"].count("unchanged") == 1


def test_readers_who_see_nothing_get_the_content_in_words(movie: Path, tmp_path: Path) -> None:
    prediction = predict(movie, 2, SPANS, ("<returns>", "stranger"))
    for suffix in ("html", "png"):
        save_timeline(prediction, tmp_path / f"timeline.{suffix}")
    page = read(tmp_path / "timeline.html")
    (svg,) = page.all("svg")
    assert (svg["role"], svg["aria-label"]) == ("img", "Timeline of movie.mkv")
    image = Image.open(tmp_path / "timeline.png")
    assert image.text["Title"] == "Timeline of movie.mkv"
    for description in (page.texts["desc"][0], image.text["Description"]):
        for label, probability in prediction.probabilities.items():
            assert f"{label} {probability:.1%}" in description
        assert "0:12 long, 12 frames seen." in description
        assert "Model: bundle, on cpu" in description
