"""Code blocks of a Markdown page, with the markers that stand before them.

A marker is an HTML comment on its own, before the block:

    <!-- not run: REASON -->       the block is not executed
    <!-- not compared: REASON -->  the output of the preceding block is not compared with this text
    <!-- needs: TOOL ... -->       the block, and the rest of its page, needs these programs
"""

import re
from dataclasses import dataclass
from pathlib import Path

EXECUTED = ("bash", "python")
OUTPUT = ("text", "json")

_FENCE = re.compile(r"(?P<indent> *)```(?P<language>\w*)\s*")
_MARKER = re.compile(r" *<!-- (?P<name>not run|not compared|needs): (?P<value>.+) -->\s*")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        place: File and line, for messages.
        language: Word after the fence.
        text: Lines of the block, without its indentation.
        markers: Markers before it, by name.
    """

    place: str
    language: str
    text: str
    markers: dict[str, str]

    @property
    def executed(self) -> bool:
        """Whether the block is to be executed."""
        return self.language in EXECUTED and "not run" not in self.markers


def read_blocks(path: Path) -> list[Block]:
    """Returns the fenced blocks of a page, in order."""
    blocks: list[Block] = []
    markers: dict[str, str] = {}
    lines = iter(enumerate(path.read_text("utf-8").splitlines(), start=1))
    for number, line in lines:
        if marker := _MARKER.fullmatch(line):
            markers[marker["name"]] = marker["value"]
        elif fence := _FENCE.fullmatch(line):
            indent, body = fence["indent"], []
            for _, inner in lines:
                if inner == f"{indent}```":
                    break
                body.append(inner.removeprefix(indent))
            else:
                raise ValueError(f"{path}:{number}: the block does not end")
            blocks.append(Block(f"{path.name}:{number}", fence["language"], "\n".join(body) + "\n", markers))
            markers = {}
        elif line.strip() and not line.lstrip().startswith("<!--"):
            markers = {}
    return blocks
