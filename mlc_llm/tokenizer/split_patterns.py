"""Regular expressions of a ``tokenizer.json`` that would take for ever on a short text.

The library splits and normalizes text with Oniguruma, which backtracks. It gives up after some
millions of steps, but for each position of a text again, in native code that Ctrl-C does not reach.
The patterns of published models have no part that is repeated and holds another repetition or
alternatives, and no more than two repetitions without an end in a row. A pattern that has is tried
on short texts when it is loaded, in a child process with a deadline.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlc_llm.errors import PluginError, TokenizerError
from mlc_llm.registry.child import python_command, python_environment, run_child
from mlc_llm.shown import shown

SECONDS = 8.0
"""For all patterns of a file. A pattern that does not backtrack without end takes milliseconds."""

_LISTED = 3
"""How many patterns a message shows."""

_TOKEN = re.compile(
    r"\\[pP]\{[^}]*\}|\\.|\[(?:\[:\^?\w+:\]|\\.|\[(?:\\.|[^\]\\])*\]|[^\]\\])*\]"
    r"|\(\?(?:[=!>~|]|<[=!]|<\w+>|'\w+'|[imxadu-]*:|[imxadu-]+\)|\#)?|\(|\)|\|"
    r"|(?:[*+?]|\{\d*,?\d*\})[?+]?|.",
    re.DOTALL,
)
_REPETITION = re.compile(r"[*+]|\{\d*,\d*\}|\{(?!1\})\d+\}")
_ENDLESS = re.compile(r"[*+]|\{\d*,\}")
_MOST_IN_A_ROW = 2


def refuse_slow_patterns(data: dict[str, Any], path: Path) -> None:
    """Try the patterns that may backtrack without end.

    Args:
        data: what the ``tokenizer.json`` says.
        path: its place, for the message.

    Raises:
        TokenizerError: a pattern takes too long on a short text, or fails on it.
    """
    suspicious = list(filter(is_suspicious, dict.fromkeys(_patterns(data))))
    if not suspicious:
        return
    listed = ", ".join(map(shown, suspicious[:_LISTED]))
    try:
        command = python_command("mlc_llm.tokenizer.try_pattern", json.dumps(suspicious))
        outcome = run_child(command, python_environment({"RUST_BACKTRACE": "0"}), SECONDS)
    except (OSError, ValueError, PluginError) as error:
        raise TokenizerError(
            f"{path} splits text by {listed}, which may take for ever, and a process to try it in "
            f"cannot be started: {error}.",
            code="tokenizer-endless",
        ) from None
    if outcome.returncode != 0:
        begun = outcome.stdout.split()[-1:]
        guilty = shown(suspicious[int(begun[0])]) if begun else listed
        raise TokenizerError(
            f"{path} splits text by {guilty}, which backtracks without end: tried on a short text "
            f"it {outcome.ending()}. Take the tokenizer of the original model.",
            code="tokenizer-endless",
        )


def is_suspicious(pattern: str) -> bool:
    """Whether a pattern's form lets it backtrack more than the patterns of published models do."""
    depth_holds = [False]  # For each open group: whether it holds a repetition or alternatives.
    row, closed = 0, False  # Endless repetitions in a row; whether a group was just closed.
    for match in _TOKEN.finditer(pattern):
        token = match[0]
        inner, closed_now = closed, False
        if token.startswith("(") and not token.endswith(")"):
            depth_holds.append(False)
        elif token == ")":
            closed_now = depth_holds.pop() if len(depth_holds) > 1 else False
            depth_holds[-1] = depth_holds[-1] or closed_now
            closed = closed_now
            continue
        elif token == "|":
            row = row if len(depth_holds) > 1 else 0
            depth_holds[-1] = len(depth_holds) > 1 or depth_holds[-1]
        elif re.fullmatch(r"\\([1-9]|[gk][<'].*)", token[:3]):
            return True
        elif _REPETITION.match(token) and len(token) < 12:
            if inner:
                return True
            depth_holds[-1] = True
            row += bool(_ENDLESS.match(token))
            if row > _MOST_IN_A_ROW:
                return True
        closed = closed_now
    return False


def _patterns(data: dict[str, Any]) -> Iterator[str]:
    """The regular expressions of all normalizers, pre-tokenizers and decoders."""
    stack: list[Any] = [data.get(part) for part in ("normalizer", "pre_tokenizer", "decoder")]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            if isinstance(part.get("Regex"), str):
                yield part["Regex"]
            stack += part.values()
        elif isinstance(part, list):
            stack += part
