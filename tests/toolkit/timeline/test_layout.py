import base64
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
from vis4mer.config import DecoderConfig, HeadConfig
from vis4mer.errors import ConfigError, VideoError, Vis4merError
from vis4mer.runtime.prediction import Prediction, aggregate
from vis4mer.timeline.drawing import LIGHT, Area, Drawing, Label, Line, to_png, to_svg
from vis4mer.timeline.layout import save_timeline
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


def predict(
    video: Path, n_labels: int, spans: list[tuple[float, float]], labels: tuple[str, ...] = (), bundle: str = "bundle"
) -> Prediction:
    decoder = DecoderConfig(d_input=8, l_max=240, d_output=n_labels, d_model=8, n_layers=1)
    logits = np.linspace(0, 4, len(spans) * n_labels).reshape(len(spans), n_labels) % 3
    heads = {
        "genre": aggregate("genre", HeadConfig(decoder, labels=labels), spans, logits),
        "likes": aggregate(
            "likes",
            HeadConfig(DecoderConfig(d_input=8, l_max=240, d_output=1, d_model=8, n_layers=1), task="regression"),
            spans,
            logits[:, :1],
        ),
    }
    return Prediction(
        video=str(video),
        duration=12.0,
        frames=12,
        stride=1.0,
        padded=False,
        bundle=bundle,
        device="cpu",
        device_reason="asked for",
        precision="fp32",
        precision_reason="asked for",
        video_decoder="pyav",
        video_decoder_reason="asked for",
        damage=Damage(),
        heads=heads,
    )


SPANS = [(float(start), float(start + 5)) for start in range(8)]


def test_the_page_shows_every_head_every_label_and_every_window(movie: Path, tmp_path: Path) -> None:
    prediction = predict(movie, 3, SPANS, ("action", "comedy", "romance"))
    save_timeline(prediction, tmp_path / "timeline.html")
    page = Page((tmp_path / "timeline.html").read_text())
    texts = page.texts["text"]
    for text in ("movie.mkv", "genre", "likes", "action", "comedy", "romance", "0:00", "0:12", "0%", "100%"):
        assert text in texts
    for probability in prediction.probabilities.values():
        assert f"{probability:.1%}" in texts
    assert any("5 s long, one every 1 s" in text for text in texts)
    data = json.loads(page.texts["script"][0])
    assert data["windows"] == [list(span) for span in SPANS]
    values = {line["label"]: line["values"] for line in data["plots"][0]["lines"]}
    for index, label in enumerate(("action", "comedy", "romance")):
        assert values[label] == pytest.approx([w.probabilities[index] for w in prediction.windows], abs=1e-3)
    assert data["plots"][1]["lines"][0]["values"] == pytest.approx(
        [w.value for w in prediction.heads["likes"].windows], abs=1e-3
    )


def test_curves_pass_through_their_values(movie: Path, tmp_path: Path) -> None:
    prediction = predict(movie, 2, SPANS)
    save_timeline(prediction, tmp_path / "timeline.html")
    page = Page((tmp_path / "timeline.html").read_text())
    data = json.loads(page.texts["script"][0])
    plot = data["plots"][0]
    best = max(range(2), key=lambda i: list(prediction.probabilities.values())[i])
    solid = [a for a in page.all("polyline") if a["stroke"] == "var(--line0)" and "stroke-dasharray" not in a]
    points = [tuple(map(float, point.split(","))) for point in str(solid[0]["points"]).split()]
    expected = [
        (
            data["x"] + data["width"] * (window.start + window.end) / 2 / 12,
            plot["top"] + plot["height"] * (1 - window.probabilities[best]),
        )
        for window in prediction.windows
    ]
    np.testing.assert_allclose(points, expected, atol=0.01)


def test_the_thumbnails_are_the_movie_in_order(movie: Path, tmp_path: Path) -> None:
    save_timeline(predict(movie, 2, SPANS), tmp_path / "timeline.html")
    images = Page((tmp_path / "timeline.html").read_text()).all("image")
    assert len(images) >= 4
    for i, image in enumerate(images):
        data = base64.b64decode(str(image["href"]).removeprefix("data:image/jpeg;base64,"))
        pixels = np.asarray(Image.open(io.BytesIO(data)))
        second = int((i + 0.5) / len(images) * 12)
        np.testing.assert_allclose(pixels.mean(axis=(0, 1)), [250 - 20 * second, 10, 5 + 20 * second], atol=8)
    lefts = [float(str(image["x"])) for image in images]
    assert lefts == sorted(lefts)


def test_the_page_may_load_nothing_and_run_no_script_but_its_own(movie: Path, tmp_path: Path) -> None:
    save_timeline(predict(movie, 2, SPANS), tmp_path / "timeline.html")
    page = Page((tmp_path / "timeline.html").read_text())
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
    page = Page((tmp_path / "timeline.html").read_text())
    assert len(page.all("script")) == 2
    assert not page.all("img")
    assert page.texts["title"] == ["<script>alert(1)<!--\\x1b[2J\\n\\u202e'\"&\\udcff.mkv"]
    assert label in [line["label"] for line in json.loads(page.texts["script"][0])["plots"][0]["lines"]]
    save_timeline(predict(video, 2, SPANS, (label, "other")), tmp_path / "timeline.png")


def test_of_many_labels_the_most_probable_are_drawn(movie: Path, tmp_path: Path) -> None:
    prediction = predict(movie, 40, SPANS)
    save_timeline(prediction, tmp_path / "timeline.html")
    page = Page((tmp_path / "timeline.html").read_text())
    lines = json.loads(page.texts["script"][0])["plots"][0]["lines"]
    ranked = sorted(prediction.probabilities, key=lambda label: -prediction.probabilities[label])
    assert [line["label"] for line in lines] == ranked[:6]
    rest = sum(prediction.probabilities[label] for label in ranked[6:])
    assert f"34 more  {rest:.1%}" in page.texts["text"]


def test_a_single_window_is_one_level_line(movie: Path, tmp_path: Path) -> None:
    save_timeline(predict(movie, 2, [(0.0, 12.0)]), tmp_path / "timeline.html")
    page = Page((tmp_path / "timeline.html").read_text())
    assert any("one window" in text for text in page.texts["text"])
    data = json.loads(page.texts["script"][0])
    for attributes in page.all("polyline"):
        if str(attributes["stroke"]).startswith("var(--line"):
            (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in str(attributes["points"]).split())
            assert (x0, x1, y0) == (data["x"], data["x"] + data["width"], y1)


def test_the_sample_bundle_has_one_name_wherever_it_lies(
    movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.setattr("vis4mer.timeline.layout.sample_bundle", lambda: tmp_path / "there")
    for bundle, name in ((tmp_path / "there", "the sample bundle"), (tmp_path / "other", "other")):
        save_timeline(predict(movie, 2, SPANS, bundle=str(bundle)), tmp_path / "timeline.html")
        texts = Page((tmp_path / "timeline.html").read_text()).texts["text"]
        assert f"Model: {name}, on cpu; video read by pyav." in texts


def test_the_png_is_sharp_and_shows_curves_and_thumbnails(movie: Path, tmp_path: Path) -> None:
    save_timeline(predict(movie, 2, SPANS), tmp_path / "timeline.png")
    image = Image.open(tmp_path / "timeline.png")
    assert image.width == 2240
    colours = {pixel for _, pixel in image.getcolors(1 << 24)}
    for name in ("surface", "line0", "line1"):
        assert tuple(bytes.fromhex(LIGHT[name][1:])) in colours
    first_thumbnail = np.asarray(image)[2 * 100 : 2 * 155, 2 * 70 : 2 * 100]
    np.testing.assert_allclose(first_thumbnail.mean(axis=(0, 1)), [230, 10, 25], atol=25)


@pytest.mark.parametrize("n_frames", [1, 2])
def test_the_shortest_movies_have_a_timeline(tiny_bundle: Path, make_video: Any, tmp_path: Path, n_frames: int) -> None:
    video = make_video(tmp_path / "short.mkv", [(1, 2, 3)] * n_frames)
    prediction = vis4mer.load(tiny_bundle, device="cpu")(video)
    for suffix in ("png", "html"):
        save_timeline(prediction, tmp_path / f"timeline.{suffix}")
        assert (tmp_path / f"timeline.{suffix}").stat().st_size > 1000
    texts = Page((tmp_path / "timeline.html").read_text()).texts["text"]
    assert any("padded with zeros" in text for text in texts)


def test_errors_are_one_line(movie: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.png or \.html"):
        save_timeline(predict(movie, 2, SPANS), tmp_path / "timeline.jpg")
    with pytest.raises(Vis4merError, match="cannot be written: No such file or directory"):
        save_timeline(predict(movie, 2, SPANS), tmp_path / "nowhere" / "timeline.png")
    with pytest.raises(VideoError):
        save_timeline(predict(tmp_path / "gone.mkv", 2, SPANS), tmp_path / "timeline.png")


def test_a_drawing_is_the_same_in_both_forms() -> None:
    drawing = Drawing(
        20,
        10,
        [
            Area([(0, 0), (20, 0), (20, 5), (0, 5)], "line0"),
            Line([(0, 8), (20, 8)], "line1", 2),
            Label((1, 5), "a<b", 4, "muted"),
        ],
    )
    pixels = np.asarray(Image.open(io.BytesIO(to_png(drawing))))
    assert pixels.shape == (20, 40, 3)
    assert tuple(pixels[16, 20]) == tuple(bytes.fromhex(LIGHT["line1"][1:]))
    faint = [round(255 + (c - 255) * 0.12) for c in bytes.fromhex(LIGHT["line0"][1:])]
    assert pixels[1, 38].tolist() == faint
    svg = to_svg(drawing)
    assert re.search(r'<polyline points="0\.00,8\.00 20\.00,8\.00" .*stroke="var\(--line1\)" stroke-width="2"', svg)
    assert ">a&lt;b</text>" in svg
