"""The pages of docs/ and the blocks of code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))

FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>.*?) -->\n)?"
    r"^(?P<indent> *)(?P<fence>```+)(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^ *(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        page: the page that it stands in.
        line: the number of its fence's line.
        language: what the fence says; empty where it says nothing.
        text: the lines between the fences.
        reason: why it is not run, from a comment ``<!-- not run: REASON -->`` in the line before.
        indented: whether the fence does not stand at the beginning of its line.
    """

    page: Path
    line: int
    language: str
    text: str
    reason: str | None
    indented: bool

    def __str__(self) -> str:
        return f"{name(self.page)}:{self.line}"


def name(page: Path) -> str:
    """A page's path in docs/."""
    return page.relative_to(DOCS).as_posix()


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, match.start("fence")) + 1,
            match["language"],
            match["text"],
            match["reason"],
            bool(match["indent"]),
        )
        for match in FENCE.finditer(text)
    ]
