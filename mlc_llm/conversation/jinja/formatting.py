"""``%`` and ``str.format``, which keep the origin of the texts that they put together."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlc_llm.conversation.jinja.budget import MOST_COUNT, Budget, refuse
from mlc_llm.conversation.jinja.origin import GIVEN, Text, joined, runs_of

if TYPE_CHECKING:
    from mlc_llm.conversation.jinja.environment import ChatEnvironment

_CONVERSION = re.compile(
    r"%(?:%|(?P<key>\((?P<name>[^()]*)\))?(?P<how>[#0\- +]*(?P<width>\*|\d*)(?:\.(?:\*|\d*))?)"
    r"[hlL]?(?P<kind>[a-zA-Z]))"
)
_CONVERTERS: dict[str, Callable[[Any], str]] = {"s": str, "r": repr, "a": ascii}
_NUMBER = re.compile(r"\d+")


def percent(budget: Budget, text: str, values: Any) -> str:
    """``text % values``.

    Raises:
        TemplateError: it would cost too much.
        Exception: whatever Python raises for the operands.
    """
    _check_size(budget, text, "%", values)
    found = list(_CONVERSION.finditer(text))
    for match in found:
        _check_numbers(match["how"] or "")
        if "*" in (match["how"] or ""):
            refuse("has a text whose width is another value")
    plain = str.__mod__(text, values)  # raises what it raises
    arguments = iter(values if isinstance(values, tuple) else (values,))
    parts: list[str] = []
    end = 0
    for match in found:
        parts.append(text[end : match.start()])
        end = match.end()
        if match["kind"] is None:
            parts.append("%")
            continue
        value = values[match["name"]] if match["key"] else next(arguments)
        if match["kind"] == "s" and not match["how"] and isinstance(value, str):
            parts.append(value)
        else:
            parts.append(f"%{match['how']}{match['kind']}" % (value,))
    parts.append(text[end:])
    made = joined(parts)
    return made if made == plain else plain


class Formatter:
    """``text.format``, as a template may call it.

    Args:
        environment: where attributes are looked up.
        text: the text to fill in.
    """

    def __init__(self, environment: ChatEnvironment, text: str) -> None:
        self._environment, self._text = environment, text
        self._next = 0

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        """The text with values in its places.

        Raises:
            TemplateError: it would cost too much.
            Exception: whatever Python raises for the text or the values.
        """
        _check_size(self._environment.budget, self._text, "{", (args, kwargs))
        self._next = 0
        origin = GIVEN
        if len(runs := runs_of(self._text)) == 1:
            origin = min(runs[0].origin, 0)
        parts: list[str] = []
        for literal, field, spec, conversion in string.Formatter().parse(self._text):
            parts.append(Text.of(literal, origin))
            if field is not None:
                value = self._value(field, args, kwargs)
                parts.append(self._filled(value, spec or "", conversion))
        return joined(parts)

    def _value(self, field: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What a field such as ``0.name[key]`` stands for."""
        name, dot, bracket = re.match(r"([^.\[]*)(\.?)(\[?)", field).groups()  # type: ignore[union-attr]
        if name == "":
            name, self._next = str(self._next), self._next + 1
        value = args[int(name)] if name.isdecimal() else kwargs[name]
        for step in re.finditer(r"\.([^.\[]+)|\[([^\]]+)\]", field) if dot or bracket else ():
            if step[1] is not None:
                value = self._environment.getattr(value, step[1])
            else:
                key = int(step[2]) if step[2].isdecimal() else step[2]
                value = self._environment.getitem(value, key)
        return value

    def _filled(self, value: Any, spec: str, conversion: str | None) -> str:
        if "{" in spec:
            refuse("has a text whose width is another value")
        _check_numbers(spec)
        if conversion is not None:
            value = _CONVERTERS[conversion](value)
        if not spec:
            return self._environment.written(value)
        return format(value, spec)


def _check_size(budget: Budget, text: str, mark: str, values: Any) -> None:
    """Pay for the largest text that filling in may make."""
    count = text.count(mark)
    budget.step(count)
    budget.make(len(text) + count * (budget.weight(values) + MOST_COUNT if count else 0))


def _check_numbers(spec: str) -> None:
    for number in _NUMBER.findall(spec):
        if len(number) > 4 or int(number) > MOST_COUNT:
            refuse(f"has a text of the width {number[:20]}; {MOST_COUNT} is allowed")
