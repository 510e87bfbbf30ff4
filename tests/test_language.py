"""The product, its messages and its documentation are in plain modern English."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ODD = {
    r"\b(is|are) to be\b": "must be",
    r"(?<![Tt]here )\b(is|are) no (?!longer|more\b|other\b|less\b)": "is not a",
    r"\b[Nn]obody\b": "no one, or say who",
    r"\b[Ss]omebody\b": "someone, or say who",
    r"\banew\b": "again",
    r"\bwhat there is of\b": "so far",
    r"\b[Ss]o many\b": "that number of",
    r"; given: \{\w+!r\}": "not {value!r}",
}
"""Words that read as of another century, and what to write instead."""


def texts() -> list[Path]:
    """The source of the product, its plugins, benchmarks and example plugins, and all pages."""
    sources = [*ROOT.glob("mlc_llm/**/*.py"), *ROOT.glob("plugins/*/mlc_*/**/*.py")]
    sources += [*ROOT.glob("plugins/*/src/*"), *ROOT.glob("benchmarks/**/*.py"), ROOT / "Makefile"]
    sources += [*ROOT.glob("examples/*.py"), *ROOT.glob("examples/plugins/**/*.py")]
    pages = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md"), *ROOT.glob("examples/**/*.md")]
    return [path for path in (*sources, *pages) if "_site" not in path.parts]


def test_there_are_texts() -> None:
    assert len(texts()) > 250


@pytest.mark.parametrize("odd", ODD)
def test_odd_words_are_not_used(odd: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(odd, line)
    ]
    assert not found, f"write {ODD[odd]!r} instead:\n" + "\n".join(found)
