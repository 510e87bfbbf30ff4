"""What the methods of texts, lists and dictionaries cost, paid before they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlc_llm.conversation.jinja.budget import MOST_COUNT, Budget, refuse

_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_MOST_CHARACTERS = 64
"""Characters that ``strip`` may be given: it compares each of a text with all of them."""
WORD = 32
"""Units of a character of a text that is cut into words."""
_SEARCHED_AT_ONCE = 16
"""Characters of a sought text that cost no more than one."""


def pay_for_method(
    budget: Budget,
    receiver: str | Sequence[Any] | Mapping[Any, Any],
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> None:
    """Pay for a call of a method.

    Args:
        budget: what is left.
        receiver: the object whose method is called.
        name: the method's name.
        args: its arguments.
        kwargs: its arguments by keyword.

    Raises:
        TemplateError: it would cost too much.
    """
    given = [*args, *kwargs.values()]
    if isinstance(receiver, str):
        budget.read(receiver, *given)
        _pay_for_text(budget, receiver, name, args, kwargs)
    elif isinstance(receiver, Mapping):
        budget.read(*given[:1])
    else:
        budget.read(receiver, *given)


def _pay_for_text(
    budget: Budget, text: str, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    if name in ("center", "ljust", "rjust", "zfill"):
        check_count(*args[:1])
    elif name in ("strip", "lstrip", "rstrip"):
        pay_for_strip(budget, text, args[0] if args else kwargs.get("chars"))
    elif name == "replace" and len(args) > 1:
        pay_for_replace(budget, text, args[0], args[1])
    elif name in ("split", "rsplit"):
        sep = args[0] if args else kwargs.get("sep")
        budget.step(text.count(sep) + 1 if isinstance(sep, str) and sep else len(text) // 2 + 1)
        pay_for_search(budget, text, sep, backwards=name == "rsplit")
    elif name == "splitlines":
        budget.step(lines(text))
    elif name in ("find", "index", "count", "partition"):
        pay_for_search(budget, text, *args[:1])
    elif name in ("rfind", "rindex", "rpartition"):
        pay_for_search(budget, text, *args[:1], backwards=True)


def pay_for_strip(budget: Budget, text: str, chars: Any) -> None:
    """Pay for ``text.strip(chars)``."""
    if isinstance(chars, str):
        if len(chars) > _MOST_CHARACTERS:
            refuse(f"strips {len(chars)} different characters; {_MOST_CHARACTERS} are allowed")
        budget.pay(len(text) * len(chars) // _SEARCHED_AT_ONCE)


def pay_for_replace(budget: Budget, text: str, old: Any, new: Any) -> None:
    """Pay for ``text.replace(old, new)``."""
    if isinstance(old, str) and isinstance(new, str):
        pay_for_search(budget, text, old)
        count = text.count(old)
        budget.step(count)
        budget.make(len(text) + count * len(new))


def pay_for_search(
    budget: Budget, text: str, sought: Any = None, *, backwards: bool = False
) -> None:
    """Pay for finding a text in another; from its end Python may compare all with all."""
    if isinstance(sought, str):
        size = len(sought) if backwards else min(len(sought), 128)
        budget.pay(len(text) * (size // _SEARCHED_AT_ONCE))


def check_count(*counts: Any) -> None:
    """Check numbers that say how much of something shall be made.

    Raises:
        TemplateError: one is too large.
    """
    for count in counts:
        if isinstance(count, int) and count > MOST_COUNT:
            refuse(f"asks for a width or number of {count}; {MOST_COUNT} is allowed")


def lines(text: str) -> int:
    """At most how many lines a text has."""
    return 1 + sum(map(text.count, _LINE_ENDS))
