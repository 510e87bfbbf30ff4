"""The command group: help, errors and exit codes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import click
import pytest

from mlc_llm.cli.app import COMMANDS, LazyGroup, app, run
from mlc_llm.errors import ModelNotFoundError
from mlc_llm.version import __version__

CLI = Callable[..., Any]


class TestHelp:
    def test_every_command_of_the_overview_is_there(self) -> None:
        context = click.Context(app)
        assert isinstance(app, LazyGroup)
        for name in app.list_commands(context):
            command = app.get_command(context, name)
            assert command is not None
            assert command.name == name
            assert command.help
            for parameter in command.params:
                assert not isinstance(parameter, click.Option) or parameter.help

    def test_the_overview(self, mlc_llm: CLI) -> None:
        result = mlc_llm("--help")
        assert result.returncode == 0
        assert all(f"\n  {name} " in result.stdout for name in COMMANDS)
        assert result.stderr == ""

    def test_the_version(self, mlc_llm: CLI) -> None:
        assert mlc_llm("--version").stdout == f"mlc_llm {__version__}\n"

    def test_hyphens_serve_too(self) -> None:
        assert run(["convert-weight", "--help"]) == 0

    def test_the_console_script_is_the_same_function(self) -> None:
        from importlib.metadata import entry_points

        (script,) = entry_points(group="console_scripts", name="mlc_llm")
        from mlc_llm.cli import main

        assert script.load() is main


class TestWrongCommandLines:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["chta"], "Unknown command 'chta'. Did you mean 'chat'?"),
            (["chat", "--no-such-option"], "--no-such-option"),
            (["chat", "m", "--temperature", "warm"], "'warm' is not a valid float"),
            (["convert_weight", "m"], "--output"),
            (["compile"], "MODEL"),
        ],
    )
    def test_exit_with_2(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(arguments) == 2
        out, err = capsys.readouterr()
        assert message in err
        assert out == ""


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """Run a command that raises; returns the exit code."""

    def run_failing(error: BaseException) -> int:
        @click.command()
        def command() -> None:
            raise error

        monkeypatch.setattr(LazyGroup, "get_command", lambda *_: command)
        return run(["anything"])

    return run_failing


class TestErrors:
    def test_our_own_is_its_message(self, failing: CLI, capsys: pytest.CaptureFixture[str]) -> None:
        assert failing(ModelNotFoundError("No model 'x'.")) == 1
        assert capsys.readouterr() == ("", "Error [model-not-found]: No model 'x'.\n")

    def test_the_systems_names_the_file(
        self, failing: CLI, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert failing(OSError(errno.ENOSPC, "No space left on device", "weights.bin")) == 1
        assert capsys.readouterr().err == "Error: No space left on device: weights.bin\n"

    def test_too_little_memory(self, failing: CLI, capsys: pytest.CaptureFixture[str]) -> None:
        assert failing(MemoryError()) == 1
        message = capsys.readouterr().err
        assert "not enough memory" in message
        assert "report" not in message

    def test_any_other_asks_for_a_report(
        self, failing: CLI, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert failing(ZeroDivisionError("by zero")) == 1
        err = capsys.readouterr().err
        assert err.startswith("Error: ZeroDivisionError: by zero\n")
        assert "MLC_LLM_DEBUG=1" in err
        assert "Traceback" not in err

    def test_the_traceback_on_demand(
        self,
        failing: CLI,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("MLC_LLM_DEBUG", "1")
        assert failing(ModelNotFoundError("No model.")) == 1
        assert "Traceback (most recent call last)" in capsys.readouterr().err

    def test_ctrl_c(self, failing: CLI, capsys: pytest.CaptureFixture[str]) -> None:
        assert failing(KeyboardInterrupt()) == 130
        assert capsys.readouterr().out == ""

    @pytest.mark.skipif(sys.platform == "win32", reason="POSIX's pipes")
    def test_a_reader_that_leaves(self) -> None:
        read, write = os.pipe()
        os.close(read)
        command = [sys.executable, "-m", "mlc_llm", "plugins", "--json"]
        result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
        os.close(write)
        assert (result.returncode, result.stderr) == (1, "")
