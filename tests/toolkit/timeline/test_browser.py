"""The page in a real browser, where there is one: what the style sheet and the script do."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.toolkit.predictions import made_up
from vis4mer.config import DecoderConfig, HeadConfig
from vis4mer.runtime.aggregation import Aggregator
from vis4mer.runtime.prediction import Prediction
from vis4mer.timeline import save_timeline

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def timeline(video: Path, page: Path, n_windows: int) -> Prediction:
    decoder = DecoderConfig(d_input=8, l_max=240, d_output=2, d_model=8, n_layers=1)
    aggregator = Aggregator("genre", HeadConfig(decoder, labels=("comedy", "romance")))
    for i in range(n_windows):
        aggregator.add(float(i), float(i + 5), np.array([np.sin(i / 7), 0.2], np.float32))
    heads = {"genre": aggregator.prediction()}
    prediction = made_up(heads, video=str(video), duration=n_windows + 4.0, frames=n_windows + 4)
    save_timeline(prediction, page)
    return prediction


def opened(browser: Any, path: Path, width: int) -> Any:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.on("console", lambda message: pytest.fail(message.text))
    page.goto(path.as_uri())
    return page


@pytest.mark.parametrize("width", [320, 360, 400, 600, 800, 1040, 1280, 1920])
def test_one_drawing_is_shown_without_scrolling_in_readable_text(
    browser: Any, movie: Path, tmp_path: Path, width: int
) -> None:
    timeline(movie, tmp_path / "page.html", 8)
    page = opened(browser, tmp_path / "page.html", width)
    assert page.locator("main > svg:visible").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.evaluate(
        """() => [...document.querySelectorAll("text")].filter(text => text.checkVisibility())
        .map(text => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)"""
    )
    assert min(sizes) >= (12 if width >= 340 else 11.5)
    boxes = page.evaluate(
        """() => [...document.querySelectorAll("text")].filter(text => text.checkVisibility())
        .map(text => text.getBoundingClientRect()).map(box => [box.left, box.right])"""
    )
    assert all(left >= 0 and right <= width for left, right in boxes)


def test_the_printed_page_is_light_and_whole(browser: Any, movie: Path, tmp_path: Path) -> None:
    timeline(movie, tmp_path / "page.html", 8)
    page = opened(browser, tmp_path / "page.html", 718)  # A4 with a centimetre of margin
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("main > svg:visible").get_attribute("class") == "width-640"


def test_the_pointer_shows_the_window_under_it(browser: Any, movie: Path, tmp_path: Path) -> None:
    prediction = timeline(movie, tmp_path / "page.html", 8)
    page = opened(browser, tmp_path / "page.html", 400)
    place = page.evaluate("data.places[0]")
    scale = 400 / 360
    seconds = 6.4  # the window centred on 6.5 s, which starts at 4 s
    x, y = place["x"] + place["width"] * seconds / 12, place["tops"][0] + 30
    page.mouse.move(x * scale, y * scale)
    lines = page.inner_text("#readout").splitlines()
    assert lines[0] == "0:06, window 0:04 to 0:09"
    shown = dict(line.split("\t") for line in lines[2:])
    values = dict(zip(prediction.probabilities, prediction.windows[4].probabilities, strict=True))
    assert shown == {label: f"{value:.1%}" for label, value in values.items()}
    box = page.locator("#readout").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 400
    page.mouse.move(5, 5)
    assert page.is_hidden("#readout")


def test_the_pointer_shows_the_range_where_windows_share_a_point(browser: Any, movie: Path, tmp_path: Path) -> None:
    prediction = timeline(movie, tmp_path / "page.html", 2000)
    page = opened(browser, tmp_path / "page.html", 400)
    place, groups = page.evaluate("data.places[0]"), page.evaluate("data.groups")
    x, y = place["x"] + place["width"] * groups[50]["centre"] / 2004, place["tops"][0] + 30
    page.mouse.move(x * 400 / 360, y * 400 / 360)
    size = groups[0]["count"]
    windows = prediction.windows[50 * size : 51 * size]
    lines = page.inner_text("#readout").splitlines()
    assert f"{size} windows from" in lines[0]
    index = list(prediction.probabilities).index("comedy")
    values = [window.probabilities[index] for window in windows]
    comedy = next(line for line in lines if line.startswith("comedy")).split("\t")
    assert comedy == ["comedy", f"{np.mean(values):.1%}", f"{min(values):.1%} to {max(values):.1%}"]


def test_keys_move_from_window_to_window(browser: Any, movie: Path, tmp_path: Path) -> None:
    timeline(movie, tmp_path / "page.html", 8)
    page = opened(browser, tmp_path / "page.html", 1280)
    page.keyboard.press("Tab")

    def after(key: str) -> str:
        page.keyboard.press(key)
        return str(page.inner_text("#readout .time"))

    assert after("ArrowRight").endswith("window 0:00 to 0:05")
    assert after("ArrowRight").endswith("window 0:01 to 0:06")
    assert after("ArrowLeft").endswith("window 0:00 to 0:05")
    assert after("ArrowLeft").endswith("window 0:00 to 0:05")
    assert after("End").endswith("window 0:07 to 0:12")
    assert after("Home").endswith("window 0:00 to 0:05")
    page.keyboard.press("Escape")
    assert page.is_hidden("#readout")
