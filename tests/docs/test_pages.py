"""What the pages of docs/ show works: their Python and shell blocks run as they stand.

The blocks of a page run in order: Python in one namespace, shell commands in a child process, both
in one temporary folder. Where a folder ``demo`` is not there, ``ChatModule("demo")`` is the model
of the package.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .pages import DOCS, PAGES, Block, blocks, name

RUN = ("python", "sh")
NOT_RUN = {
    "benchmarking.md": {"installs the package", "installs packages and measures for minutes"},
    "cuda.md": {"installs the package", "needs the package", "needs a GPU"},
    "configuring.md": {"needs a model with such a template"},
    "index.md": {
        "starts a chat in the terminal, and installs the package",
        "installs the package",
        "downloads 0.7 GB",
    },
    "getting-models.md": {"downloads 93 MB", "asks, and removes a model"},
    "models-and-devices.md": {"downloads 0.7 GB"},
    "structured-output.md": {"installs the package"},
    **{
        f"plugins/{name}.md": {"installs a plugin"} | others
        for name, others in {
            "architecture": {"a file of the example, which tests/docs_plugins compares"},
            "device": set(),
            "library": {"a file of the example, which tests/docs_plugins compares"},
            "template": set(),
            "catalog": {"a file of the example, which tests/docs_plugins compares"},
            "observer": {"a file of the example, which tests/docs_plugins compares"},
            "variant": {"a file of the example, which tests/docs_plugins compares"},
        }.items()
    },
    "vulkan.md": {"installs the package", "needs a Vulkan driver"},
    "terminal.md": {"asks for turns on a terminal"},
}
"""The blocks that are left out, by their reasons. A new one is entered here, so that it is seen."""

ALL = [block for page in PAGES for block in blocks(page)]
WITH_CODE = [
    page for page in PAGES if any(b.language in RUN and not b.reason for b in blocks(page))
]

STATISTICS = re.compile(r"prefill: \d+\.\d tok/s, decode: \d+\.\d tok/s")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, in which ``mlc_llm`` is that of this Python."""
    monkeypatch.chdir(tmp_path)
    scripts = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{scripts}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "100")
    for variable in ("MLC_LLM_DEVICE", "MLC_LLM_PLUGINS", "MLC_LLM_DEBUG"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE, ids=name)
def test_the_code_of_a_page_runs(
    page: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace: dict[str, Any] = {"__name__": "__page__"}
    for block in blocks(page):
        if block.reason is not None:
            continue
        if block.language == "python":
            text = "\n" * block.line + block.text
            code = compile(text, str(page), "exec", dont_inherit=True)
            exec(code, namespace)
        elif block.language == "sh":
            run_shell(block)
        if "print(cm.stats())" in block.text:
            shown = capsys.readouterr().out.strip().splitlines()[-1]
            assert STATISTICS.fullmatch(shown.strip()), block


def run_shell(block: Block) -> None:
    """Run a block as a shell does; every command of it must succeed."""
    result = subprocess.run(
        ["bash", "-e", "-u", "-o", "pipefail", "-c", block.text],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, f"{block}: {result.stdout}{result.stderr}"


def test_what_is_not_run_is_known() -> None:
    left_out: dict[str, set[str]] = {}
    for block in ALL:
        if block.reason is not None:
            left_out.setdefault(name(block.page), set()).add(block.reason)
    assert left_out == NOT_RUN


def test_every_mark_stands_before_a_block() -> None:
    marks = sum(page.read_text(encoding="utf-8").count("<!-- not run") for page in PAGES)
    assert marks == sum(block.reason is not None for block in ALL)


def test_no_code_escapes_this_test() -> None:
    """A block of another spelling, or inside a list, would not run and nobody would see it."""
    others = {"py", "python3", "pycon", "bash", "shell", "console", "zsh"}
    assert [block for block in ALL if block.language in others] == []
    assert [block for block in ALL if block.language in RUN and block.indented] == []


def test_commands_are_the_same_in_the_guide_and_the_program() -> None:
    """commands.md has a section, and a place for the options, of each command and no other."""
    from mlc_llm.cli.app import COMMANDS

    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^### (\w+)$", text, re.MULTILINE)) == sorted(COMMANDS)
    assert sorted(re.findall(r"^<!-- options: (\w+) -->$", text, re.MULTILINE)) == sorted(COMMANDS)


def test_the_commands_and_keys_of_the_chat() -> None:
    from mlc_llm.cli.chat.commands import COMMANDS, KEYS

    text = (DOCS / "terminal.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(/[^`]*)` \|", text, re.MULTILINE) == [c.usage for c in COMMANDS]
    assert [key for keys, _ in KEYS for key in keys.split(", ") if key not in text] == []


def test_external_links_are_well_formed() -> None:
    """They are not followed: the tests run without a network."""
    links = {
        link
        for page in PAGES
        for link in re.findall(r"\b(?:https?|ftp)://[^\s)>\"'`]*", page.read_text(encoding="utf-8"))
    }
    broken = {link for link in links if not re.fullmatch(r"https://[\w.-]+\.\w+(/\S*)?", link)}
    assert not broken
