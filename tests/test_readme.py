"""The examples outside of docs/ work: Python blocks run, commands and paths exist."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
        *(ROOT / "benchmarks").glob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
        *(ROOT / "plugins").rglob("*.md"),
    ]
)
"""``tests/docs`` has the pages of docs/."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(language: str) -> list[Block]:
    """Every block of that language in the documents."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(document, line, match[1], match[2]))
    return [block for block in found if block.language == language]


def programs() -> list[Block]:
    """Every Python block, but for those that need a plugin which is not installed here."""
    return [block for block in blocks("python") if "plugins" not in block.document.parts]


def commands() -> list[tuple[str, list[str]]]:
    """Every ``mlc_llm`` command line in the documents, with where it stands."""
    return [
        (f"{block}: {line}", shlex.split(line, comments=True)[1:])
        for block in blocks("sh")
        for line in block.text.replace("\\\n", " ").splitlines()
        if line.startswith("mlc_llm ")
    ]


@pytest.mark.parametrize("block", programs(), ids=str)
def test_python_block_runs(
    block: Block,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As it stands, in an empty folder: ``demo`` is then the model of the package."""
    monkeypatch.chdir(tmp_path)
    code = compile("\n" * block.line + block.text, str(block.document), "exec")
    exec(code, {"__name__": "example"})
    shown = capsys.readouterr()
    assert shown.out.strip()
    assert shown.err == ""
    if "print(cm.stats())" in block.text:
        statistics = shown.out.splitlines()[-1]
        assert re.fullmatch(r"prefill: \d+\.\d tok/s, decode: \d+\.\d tok/s", statistics)


def test_the_first_command_needs_nothing() -> None:
    """What a newcomer types first downloads no model; the next lines name a real one."""
    first, second, *_ = [block for block in blocks("sh") if block.document.name == "README.md"]
    assert first.text == "make chat\n"
    assert second.text == "make chat MODEL=smollm2\n"


@pytest.mark.parametrize(("origin", "arguments"), commands(), ids=lambda v: str(v)[:80])
def test_command_line_is_understood(origin: str, arguments: list[str]) -> None:
    from mlc_llm.cli.app import app

    command = app.get_command(click.Context(app), arguments[0])
    assert command is not None, f"{origin}: there is no such command"
    options = {name for parameter in command.params for name in parameter.opts}
    used = {word for word in arguments[1:] if word.startswith("-")}
    assert used <= options, f"{origin}: unknown options {sorted(used - options)}"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    used = {
        target
        for block in blocks("sh")
        for target in re.findall(r"^make ([\w-]+)", block.text, re.MULTILINE)
    }
    assert used
    assert used <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    missing = [link for link in LINK.findall(text) if not (document.parent / link).exists()]
    assert not missing
