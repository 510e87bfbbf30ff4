"""The command group: subcommands by name, errors as messages, exit codes.

Exit codes: 0 for success, 1 for an error, 2 for a wrong command line, 130 for Ctrl-C. An error is
one message on stderr; with ``MLC_LLM_DEBUG=1`` its traceback comes first.
"""

from __future__ import annotations

import gc
import importlib
import io
import logging
import os
import sys
import threading
import traceback
from collections.abc import Sequence

import click

from mlc_llm.cli.output import say, visible
from mlc_llm.cli.streams import drop_unwritten, prepare_streams
from mlc_llm.errors import MLCError, unknown
from mlc_llm.version import __version__

ERROR, INTERRUPTED = 1, 130

COMMANDS = {
    "bench": "Measure how fast a model is, and where its time goes.",
    "chat": "Chat with a model.",
    "compile": "Compile a model's library to a file.",
    "convert_weight": "Convert a Hugging Face model's weights to a model folder.",
    "devices": "Show the devices, and why they can or cannot be used.",
    "doctor": "Check the installation, and say what to do about what is wrong.",
    "eval": "Measure how well a model predicts a text.",
    "gen_config": "Write the mlc-chat-config.json of a model folder.",
    "list": "List the models on this machine, and those with a short name.",
    "models": "Show the architectures and quantisations.",
    "plugins": "Show the installed plugins and their state.",
    "pull": "Download models.",
    "rm": "Remove models from the disk.",
    "templates": "Show the conversation templates.",
}
"""The subcommands, with the line that stands for each in the overview: nothing is imported."""


class LazyGroup(click.Group):
    """Imports ``mlc_llm.cli.NAME`` and takes its ``command`` when NAME is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = cmd_name.replace("-", "_")
        if name not in COMMANDS:
            return None
        command = importlib.import_module(f"mlc_llm.cli.{name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(unknown("command", args[0], COMMANDS), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def app() -> None:
    """Run large language models on the device you have."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    # Imports make almost no garbage, and looking for it takes about 30 ms of the start.
    gc.set_threshold(100_000)
    # Pydantic's own plugins: to find them it reads the metadata of everything that is installed,
    # and one broken distribution would end every command.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    prepare_streams()
    log_to_stderr()
    code = run(arguments)
    drop_unwritten()
    if code == INTERRUPTED and _is_downloading():
        os._exit(code)
    sys.exit(code)


def _is_downloading() -> bool:
    """Whether the hub's client is still at work, for whose threads Python would wait."""
    from mlc_llm.weights.hub.access import THREAD

    return any(thread.name == THREAD for thread in threading.enumerate())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; every error becomes a message and an exit code."""
    try:
        code = app.main(args=arguments, prog_name="mlc_llm", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        say(shown.getvalue(), err=True, nl=False)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        say(err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left.
        return ERROR
    except Exception as error:
        show_error(error)
        return ERROR
    return code if isinstance(code, int) else 0


def show_error(error: Exception) -> None:
    """Write an error on stderr as a message; the traceback only if it is asked for."""
    if _debugging():
        say("".join(traceback.format_exception(error)), err=True, nl=False)
    kind = "Error"
    if isinstance(error, MLCError):
        # The code leads to the entry of the error in docs/troubleshooting.md.
        kind, message = f"Error [{error.code}]", str(error)
    elif isinstance(error, OSError) and error.strerror:
        message = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    elif isinstance(error, MemoryError):
        message = (
            "There is not enough memory for this process. Close other programs, or raise its limit "
            "where it has one (ulimit -v, a container's)."
        )
    else:
        message = (
            f"{type(error).__name__}: {error}\nThis is not expected. Please report it with what "
            "MLC_LLM_DEBUG=1 shows."
        )
    say(f"{kind}: {message}", err=True)


def log_to_stderr() -> None:
    """Show what the package logs: information as it is, anything else with its level."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    logger = logging.getLogger("mlc_llm")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if _debugging() else logging.INFO)


def hide_what_is_used() -> None:
    """Leave out the lines that say which files and which device are used, unless debugging."""
    if not _debugging():
        for handler in logging.getLogger("mlc_llm").handlers:
            handler.addFilter(lambda r: r.levelno > logging.INFO or not r.msg.startswith("Using "))


def remark(text: str, **style: bool) -> str:
    """A text for stderr, in a style of ``click.style`` where stderr shows styles."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    text = visible(text)
    return text if plain or not sys.stderr.isatty() else click.style(text, **style)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = visible(super().format(record))
        if record.levelno == logging.INFO:
            return remark(text, dim=True)
        return f"{record.levelname.capitalize()}: {text}"


def _debugging() -> bool:
    return os.environ.get("MLC_LLM_DEBUG", "") not in ("", "0")
