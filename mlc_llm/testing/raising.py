"""Tests of errors: which code, and which values the message has; never its sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlc_llm.errors import MLCError


@contextmanager
def raises(
    code: str, *parts: str | Path | float, error: type[MLCError] = MLCError
) -> Iterator[pytest.ExceptionInfo[MLCError]]:
    """Expect an error of mlc_llm, as ``pytest.raises`` does.

    ::

        with raises("template-unknown", "lama-2", "llama-2"):
            registry.template("lama-2")

    Args:
        code: the error's code.
        parts: what the message must have in it: names, paths, numbers, commands. A number counts
            only as a whole, so that 12 is not in 128.
        error: the class of the error.
    """
    __tracebackhide__ = True
    with pytest.raises(error) as caught:
        yield caught
    message = str(caught.value)
    if caught.value.code != code:
        pytest.fail(f"the code is {caught.value.code!r}, not {code!r}: {message}")
    missing = [part for part in parts if not _holds(message, part)]
    if missing:
        pytest.fail(f"the message lacks {', '.join(map(repr, missing))}: {message}")


def _holds(message: str, part: str | Path | float) -> bool:
    if isinstance(part, str | Path):
        return str(part) in message
    return re.search(rf"(?<![\w.-]){re.escape(str(part))}(?!\w|\.\d)", message) is not None
