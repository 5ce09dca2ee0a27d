"""Docstrings and comments keep to the project's English, as far as a pattern can tell."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The generator's film is a story about rooms, doors and strangers, so its code names them.
STORY = ROOT / "samples" / "generator"
SOURCES = sorted(
    path
    for folder in ("toolkit", "export", "kernels", "benchmarks", "samples")
    for path in (ROOT / folder).rglob("*.py")
)

SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")
ENTRY = re.compile(r"\*{0,2}\w[\w, .]*: (?P<text>.*)")
# An entry describes its name by a noun phrase, not by what would follow "this is the value ...".
FRAGMENT = re.compile(r"(?:about|as|at|by|for|from|in|of|on|see|that|to|which|who|whose|with)\b", re.IGNORECASE)
METAPHOR = re.compile(
    r"\b(?:asks|hands? over|handed (?:over|out)|knows|minds|shrugs?|strangers?|tells|told|vouch\w*)\b",
    re.IGNORECASE,
)


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yields the line and the cleaned text of every docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text


def entries(docstring: str) -> Iterator[str]:
    """Yields the descriptions in the sections of a Google-style docstring, first lines only."""
    section = ""
    for line in docstring.splitlines():
        if match := SECTION.fullmatch(line):
            section = match[1]
        elif line and not line.startswith(" "):
            section = ""
        elif section and re.match(r" {4}\S", line):
            match = ENTRY.fullmatch(line.strip())
            if match and section in ("Args", "Attributes", "Raises"):
                yield match["text"]


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Yields the line and the text of every comment."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_entries_begin_with_a_capitalised_noun_phrase(path: Path) -> None:
    found = [
        f"line {line}: {text}"
        for line, docstring in docstrings(ast.parse(path.read_text()))
        for text in entries(docstring)
        if FRAGMENT.match(text) or text[:1].islower()
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if STORY not in path.parents], ids=lambda path: str(path.relative_to(ROOT))
)
def test_docstrings_and_comments_are_literal(path: Path) -> None:
    source = path.read_text()
    texts = [*docstrings(ast.parse(source)), *comments(source)]
    found = [f"line {line}: {match[0]!r}" for line, text in texts for match in METAPHOR.finditer(text)]
    assert not found, "\n".join(found)
