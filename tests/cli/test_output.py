"""What a command says gives no commands to the terminal, wherever the text comes from."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from mlc_llm.cli import app
from mlc_llm.cli.output import say, say_path, visible
from mlc_llm.cli.table import show_table
from mlc_llm.errors import MLCError

CLI = Callable[..., Any]

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\rgone\x00\x7f\u202eabc"
SHOWN = r"\x1b]0;owned\x07\x1b[2J\x9b31m\x0dgone\x00\x7f\u202eabc"


def test_controls_are_shown_and_lines_stay() -> None:
    assert visible(EVIL) == SHOWN
    assert visible("a\tb\nc\r\nd é 漢字 👩‍👩‍👧 e") == "a\tb\nc\nd é 漢字 👩‍👩‍👧 e"
    assert visible("\ud800") == r"\ud800"
    controls = [chr(code) for code in range(0x110000) if not chr(code).isprintable()]
    kept = [c for c in controls if visible(c) == c and ord(c) < 0x100]
    assert kept == ["\t", "\n", "\xa0", "\xad"]


@pytest.mark.parametrize("terminal", [True, False])
def test_every_way_to_say_something(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    say(EVIL)
    say(EVIL, err=True)
    show_table([EVIL, "b"], [[EVIL, EVIL], ["x", EVIL]])
    app.show_error(MLCError(EVIL))
    app.show_error(OSError(2, "No such file", EVIL))
    app.show_error(ZeroDivisionError(EVIL))
    say(app.remark(EVIL, bold=True), err=True)
    out, err = capsys.readouterr()
    for character in set(EVIL) - set("]0;owned[2J31mgoneabc"):
        assert character not in err
        assert terminal or character not in out
    assert out.count(r"\x1b]0;owned\x07") >= 4
    assert err.count(r"\x1b]0;owned\x07") == 5


def test_tracebacks_logs_and_usage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLC_LLM_DEBUG", "1")
    app.show_error(MLCError(EVIL))
    logger = logging.getLogger("mlc_llm")
    before = logger.handlers[:], logger.propagate, logger.level
    try:
        app.log_to_stderr()
        logger.warning("the folder %s", EVIL)
        try:
            raise ValueError(EVIL)
        except ValueError:
            logger.exception("failed")
    finally:
        logger.handlers[:], logger.propagate = before[:2]
        logger.setLevel(before[2])
    assert app.run([EVIL.replace("\x00", "")]) == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "\x07" not in err
    assert err.count(r"\x1b]0;owned\x07") >= 5


def test_a_path_is_exact_for_programs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say_path(Path("/a\x1b[2J"))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    say_path(Path("/a\x1b[2J"))
    assert capsys.readouterr().out == "/a\x1b[2J\n/a\\x1b[2J\n"


def test_nothing_of_the_command_line_writes_otherwise() -> None:
    """Text goes through ``say``; what else writes is the answer of a model."""
    import mlc_llm.cli

    folder = Path(mlc_llm.cli.__file__).parent
    allowed = {
        "output.py",
        "chat/session.py",  # answers, and remarks that are fixed or made by remark()
        "chat/reading.py",  # the prompt
        "doctor/trial.py",  # JSON for the doctor
    }
    found = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if any(word in path.read_text() for word in ("click.echo", "print(", "stdout.write"))
    }
    # A model's text, without control characters; rich's, of texts that are made visible.
    assert found - allowed <= {"chat/answering.py", "table.py"}


@pytest.mark.skipif(sys.platform == "win32", reason="such names are POSIX's")
@pytest.mark.parametrize(
    ("command", "options"),
    [("chat", ("--prompt", "x")), pytest.param("doctor", (), marks=pytest.mark.slow)],
)
def test_the_name_of_a_model_folder(
    mlc_llm: CLI, tmp_path: Path, command: str, options: tuple[str, ...]
) -> None:
    # In a locale without these characters, the same bytes are others.
    name = os.fsdecode(EVIL.replace("\x00", "").encode())
    assert click.unstyle(name) != name
    result = mlc_llm(command, tmp_path / name, *options)
    assert "\x1b" not in result.stdout + result.stderr
    assert r"\x1b]0;owned\x07" in result.stdout + result.stderr
