"""The filters and tests of chat templates: jinja2's own, paid for, and some that are replaced.

Filters that lay out no prompt (``urlize``, ``wordwrap``, ``random``, ...) are left out: a template
that uses one is refused when it is read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from jinja2.defaults import DEFAULT_FILTERS, DEFAULT_TESTS

from mlc_llm.conversation.jinja import costs
from mlc_llm.conversation.jinja.json_text import json_text

if TYPE_CHECKING:
    from mlc_llm.conversation.jinja.environment import ChatEnvironment

Function = Callable[..., Any]

_CHEAP = frozenset(
    "attr count d default first items last length map reject rejectattr select selectattr".split()
)
"""Filters that take no time by themselves, or whose results are paid for one by one."""
_ONCE_OVER = frozenset("batch list reverse slice".split())
"""Filters that go over their value once and do not look into its items."""
_OF_TEXT = frozenset(
    "capitalize center e escape format indent lower replace safe string title trim truncate upper "
    "wordcount".split()
)
"""Filters whose value is a text, or is written as one."""
_WORD_BY_WORD = frozenset({"title", "wordcount"})
_OF_NUMBERS = frozenset({"abs", "round"})
_THOROUGH = frozenset("dictsort float groupby int max min sort unique".split())
"""Filters that compare values, or read them otherwise."""
_OWN = frozenset({"join", "sum", "tojson"})

_COMPARING_TESTS = frozenset(
    "== != > >= < <= eq equalto ne gt greaterthan ge lt lessthan le in".split()
)
_TESTS_OF_NUMBERS = frozenset({"divisibleby", "even", "odd"})


def filters(environment: ChatEnvironment) -> dict[str, Function]:
    """The filters, by name, as an environment runs them."""
    made = {
        name: _paid_filter(environment, name, DEFAULT_FILTERS[name])
        for name in _CHEAP | _ONCE_OVER | _OF_TEXT | _OF_NUMBERS | _THOROUGH
    }
    own = {name: getattr(_Own(environment), name) for name in _OWN}
    return {**made, **own}


def tests(environment: ChatEnvironment) -> dict[str, Function]:
    """The tests (``is defined``), by name, as an environment runs them."""
    known: Mapping[str, Any] = DEFAULT_TESTS
    return {name: _paid_test(environment, name, test) for name, test in known.items()}


class _Own:
    """Filters that differ from jinja2's."""

    def __init__(self, environment: ChatEnvironment) -> None:
        self._environment = environment

    def join(self, value: Any, d: Any = "", attribute: Any = None) -> str:
        """``value | join(d)``."""
        environment = self._environment
        items = environment.looped(value)
        if attribute is not None:
            items = environment.filters["map"](_Context(environment), items, attribute=attribute)
        return environment.join(environment.written(d), items)

    def sum(self, value: Any, attribute: Any = None, start: Any = 0) -> Any:
        """``value | sum``."""
        environment = self._environment
        items = environment.looped(value)
        if attribute is not None:
            items = environment.filters["map"](_Context(environment), items, attribute=attribute)
        total = start
        for item in items:
            total = environment.operate("+", total, item)
        return total

    def tojson(
        self,
        x: Any,
        ensure_ascii: bool = False,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """``value | tojson``, as transformers has it: no character is escaped for HTML."""
        return json_text(self._environment.budget, x, ensure_ascii, indent, separators, sort_keys)


class _Context:
    """What jinja2's ``map`` wants of a context when it looks for attributes."""

    def __init__(self, environment: ChatEnvironment) -> None:
        self.environment = environment


def _paid_filter(environment: ChatEnvironment, name: str, function: Function) -> Function:
    """A filter of jinja2's that is paid for."""
    position = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def paid(*args: Any, **kwargs: Any) -> Any:
        budget = environment.budget
        budget.step()
        if name in _CHEAP:
            result = function(*args, **kwargs)
            return environment.ticking(result) if isinstance(result, Iterator) else result
        given, value, others = args[:position], args[position], args[position + 1 :]
        if name in _OF_TEXT:
            value = environment.written(value)
            _pay_for_text(environment, name, value, others, kwargs)
            if name == "format":
                return environment.operate("%", value, kwargs or others)
        elif name in _ONCE_OVER:
            value = environment.looped(value)
            costs.check_count(*others, *kwargs.values())
        elif name in _OF_NUMBERS:
            _require_number(name, value)
            costs.check_count(*map(_size, [*others, *kwargs.values()]))
        else:
            budget.read(value, value, *others)
        return environment.checked(function(*given, value, *others, **kwargs))

    return paid


def _pay_for_text(
    environment: ChatEnvironment, name: str, text: str, others: Any, kwargs: Any
) -> None:
    budget = environment.budget
    budget.read(text, *others, *kwargs.values())
    if name == "replace":
        sought = [*others, *(kwargs[key] for key in ("old", "new") if key in kwargs)]
        if len(sought) > 1:
            costs.pay_for_replace(budget, text, *map(environment.written, sought[:2]))
    elif name == "trim":
        costs.pay_for_strip(budget, text, (*others, *kwargs.values(), None)[0])
    elif name == "indent":
        width = (*others, *kwargs.values(), 4)[0]
        costs.check_count(width)
        size = len(width) if isinstance(width, str) else 10 * _size(width)
        budget.make(costs.lines(text) * size)
    elif name in _WORD_BY_WORD:
        budget.pay(costs.WORD * len(text))
    elif name == "center":
        costs.check_count(*others, *kwargs.values())


def _paid_test(environment: ChatEnvironment, name: str, function: Function) -> Function:
    """A test of jinja2's that is paid for."""

    @functools.wraps(function)
    def paid(*args: Any, **kwargs: Any) -> Any:
        environment.budget.step()
        if name in _COMPARING_TESTS:
            environment.budget.read(*args, *kwargs.values())
            environment.budget.glance(*args)
        elif name in _TESTS_OF_NUMBERS:
            _require_number(name, *args, *kwargs.values())
        elif name in ("lower", "upper"):
            return function(environment.written(args[0]))
        return function(*args, **kwargs)

    return paid


def _require_number(name: str, *values: Any) -> None:
    for value in values:
        if isinstance(value, str | list | tuple | dict):
            raise TypeError(f"{name} needs numbers, not {type(value).__name__}")


def _size(value: Any) -> Any:
    return abs(value) if isinstance(value, int | float) else value
