"""The built site: complete, with links that lead somewhere, and with nothing that is loaded from elsewhere."""

import dataclasses
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import click
import pytest
from benchmark_pages import BENCHMARKS
from benchmark_pages.page import Benchmark

import vis4mer
from vis4mer.cli.main import main
from vis4mer.runtime.prediction import Prediction

# Attributes that make a browser load something, by element; links that a reader follows are not among them.
LOADED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "use": ("href", "xlink:href"),
    "image": ("href", "xlink:href"),
    "link": ("href",),
}
_IN_STYLE = re.compile(r"(?:url\(|@import)\s*['\"]?([^'\")\s]+)")


class Page(HTMLParser):
    """What a page loads, links to, and can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self._in_style = False
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._in_style = tag == "style"
        self.loads += [values[name] for name in LOADED.get(tag, ()) if name in values]
        self.loads += _IN_STYLE.findall(values.get("style", ""))
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.loads += _IN_STYLE.findall(data)


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def _external(address: str) -> bool:
    return bool(urlsplit(address).netloc) or urlsplit(address).scheme not in ("", "data")


def test_no_page_loads_anything_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    outside = {path.name: [load for load in page.loads if _external(load)] for path, page in pages.items()}
    assert not {name: loads for name, loads in outside.items() if loads}
    for path in site.rglob("*.css"):
        loads = _IN_STYLE.findall(path.read_text("utf-8"))
        assert not [load for load in loads if _external(load)], path


def test_what_pages_load_exists(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for load in page.loads:
            if path.name != "404.html" and not load.startswith("data:"):
                assert (path.parent / unquote(urlsplit(load).path)).exists(), f"{path.name} loads {load}"


def _broken(path: Path, page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    for link in page.links:
        if _external(link) or path.name == "404.html":
            continue
        address, anchor = urldefrag(link)
        target = (path.parent / unquote(address)).resolve() if address else path
        if target.is_dir():
            target /= "index.html"
        if not target.exists() or (anchor and target in pages and unquote(anchor) not in pages[target].anchors):
            yield link


def test_links_and_anchors_lead_somewhere(pages: dict[Path, Page]) -> None:
    broken = {path.name: list(_broken(path, page, pages)) for path, page in pages.items()}
    assert not {name: links for name, links in broken.items() if links}


def test_no_equation_is_left_as_latex(pages: dict[Path, Page], site: Path) -> None:
    assert "<math" in (site / "how-it-works" / "model.html").read_text("utf-8")
    for path in pages:
        text = path.read_text("utf-8")
        assert 'class="arithmatex"' not in text, path.name
        assert "\\frac" not in text, path.name


def test_every_command_and_option_is_on_its_page(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "reference" / "commands.html").read_text("utf-8"))
    with click.Context(main, info_name="vis4mer") as context:
        for name in main.list_commands(context):
            command = main.get_command(context, name)
            assert command is not None
            assert f"vis4mer {name}" in text
            for option in command.params:
                if isinstance(option, click.Option) and not option.hidden:
                    assert option.opts[-1] in text, f"{name} {option.opts[-1]}"


def test_python_reference_holds_every_public_name(site: Path) -> None:
    anchors = Page(site / "reference" / "python.html").anchors
    assert {f"vis4mer.{name}" for name in vis4mer.__all__ if not name.startswith("__")} <= anchors


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_benchmark_pages_name_machine_command_and_data(site: Path, root: Path, benchmark: Benchmark) -> None:
    text = (site / "benchmarks" / benchmark.page.replace(".md", ".html")).read_text("utf-8")
    assert benchmark.command in text
    results = [path for path in (root / "benchmarks" / "results").glob("*.json") if path.name in text]
    assert results
    for path in results:
        machine = json.loads(path.read_text("utf-8")).get("machine")
        expected = machine["cpu"] if isinstance(machine, dict) else "recorded"
        assert expected in text
        copy = site / "benchmarks" / "data" / path.name
        assert copy.read_bytes() == path.read_bytes()


def test_every_result_has_a_page(site: Path, root: Path) -> None:
    text = "".join(path.read_text("utf-8") for path in (site / "benchmarks").glob("*.html"))
    for path in (root / "benchmarks" / "results").glob("*.json"):
        assert f"data/{path.name}" in text


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_commands_of_the_benchmark_pages_exist(root: Path, benchmark: Benchmark) -> None:
    module = re.fullmatch(r"python -m benchmarks\.(\w+)", benchmark.command)
    assert module
    base = root / "benchmarks" / module[1]
    assert base.with_suffix(".py").is_file() or (base / "__main__.py").is_file()


def test_manifest_page_names_every_key(root: Path) -> None:
    text = (root / "docs" / "reference" / "manifest.md").read_text("utf-8")
    manifest = json.loads((root / "samples" / "bundle" / "manifest.json").read_text("utf-8"))
    model, files = manifest["model"], manifest["files"]
    keys = {*manifest, *model, *model["encoder"], *model["preprocessing"], *model["windows"]}
    keys |= {*manifest["parity"]["encoder"], *files["encoder.onnx"]}
    assert not [key for key in sorted(keys) if f"`{key}`" not in text]


def test_json_page_names_every_field_of_a_prediction(root: Path) -> None:
    text = (root / "docs" / "reference" / "json.md").read_text("utf-8")
    assert not [field.name for field in dataclasses.fields(Prediction) if f"`{field.name}`" not in text]
