"""What the operators of templates do: arithmetic, comparisons, and what ``+`` does with texts."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from mlc_llm.conversation.jinja.budget import Budget, refuse
from mlc_llm.conversation.jinja.formatting import percent
from mlc_llm.conversation.jinja.origin import joined

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gteq": operator.ge,
    "lt": operator.lt,
    "lteq": operator.le,
    "in": lambda item, container: item in container,
    "notin": lambda item, container: item not in container,
}
_SEQUENCES = (str, list, tuple)
_MOST_BITS = 128
"""Bits of a power. All numbers that are allowed have fewer."""


def operate(budget: Budget, sign: str, left: Any, right: Any) -> Any:
    """``left + right``, or what another sign says.

    Raises:
        TemplateError: it would cost too much.
        Exception: whatever Python raises for the operands.
    """
    if isinstance(left, _SEQUENCES) and sign == "+":
        if isinstance(left, str) and isinstance(right, str) and not _is_markup(left, right):
            budget.join((left, right))
            return joined((left, right))
        _pay_for_sum(budget, left, right)
    elif isinstance(left, str) and sign == "%":
        return percent(budget, left, right)
    elif sign == "*":
        for sequence, times in ((left, right), (right, left)):
            if isinstance(sequence, _SEQUENCES) and isinstance(times, int):
                size = len(sequence) * max(times, 0)
                budget.step(max(times, 0))
                (budget.make if isinstance(sequence, str) else budget.gather)(size)
    elif sign == "**" and isinstance(left, int) and isinstance(right, int):
        _check_power(left, right)
    return _ARITHMETIC[sign](left, right)


def compare(budget: Budget, sign: str, left: Any, right: Any) -> Any:
    """``left == right``, or what another sign of jinja2's tree says.

    Raises:
        TemplateError: it would cost too much.
        Exception: whatever Python raises for the operands.
    """
    if sign not in ("in", "notin"):
        budget.pay(min(budget.weight(left), budget.weight(right)))
    elif isinstance(right, dict):
        budget.read(left)
    else:
        budget.read(left, right)
        if not isinstance(right, str):
            budget.glance(right)
    return _COMPARISONS[sign](left, right)


def _pay_for_sum(budget: Budget, left: Any, right: Any) -> None:
    """Pay for a list of the items of two."""
    if hasattr(right, "__len__"):
        budget.gather(len(left) + len(right))


def _check_power(base: int, exponent: int) -> None:
    if base.bit_length() * exponent > _MOST_BITS:
        refuse(f"computes a number of more than {_MOST_BITS} bits")


def _is_markup(*texts: str) -> bool:
    return any(isinstance(text, Markup) for text in texts)
