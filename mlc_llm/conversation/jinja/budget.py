"""What a template may cost: the sandbox of jinja2 bounds neither time nor memory.

Everything that a template does is paid for in units, before it is done where its size can be known
before: each operation, each turn of a loop, each character that is read or written, each item of a
list. So a template that would run for ever, or fill the memory, ends after about a second in an
error; and the same template with the same messages ends in the same place on every machine.

A list may hold another one many times over, and lists nest; comparing or writing such a list costs
what it holds when it is written out. So that is counted when it is made (:meth:`Budget.weight`),
and a list that is too large in this sense cannot be made.
"""

from __future__ import annotations

import weakref
from collections.abc import ItemsView, KeysView, Mapping, Sequence, ValuesView
from typing import Any, NoReturn

from mlc_llm.conversation.jinja.origin import Text, runs_of
from mlc_llm.errors import TemplateError

STEP = 128
"""Units of one operation, which takes about a microsecond."""
_ITEM = 32
"""Units of one item of a list, or of one run of characters of one origin."""
_LONG = 2**14
"""Characters of a long text. Of long texts 16 characters are a unit, for copying them is fast."""
_LONG_PER_UNIT = 16

_UNITS = 2**25
_UNITS_FOR_INPUT = 256
"""Units for each unit of what the template is given."""
_UNITS_FOR_PAIRS = 2**9
"""Units for each pair of messages: real templates look at all messages for each of them."""
_LARGEST = 2**22
_LARGEST_FOR_INPUT = 16
_HELD_FROM = 2**8
"""Characters of a text that is counted for as long as it is there. Shorter ones cost more units to
make, for the bytes that they take, so that what all of them take is bounded."""
_HELD = 2**23
_HELD_FOR_INPUT = 64
"""Characters that these texts may have together, for each unit of what is given."""

_WRITTEN = 2**17
_WRITTEN_FOR_INPUT = 4
"""Characters of the prompt: each becomes up to a token, which takes far more memory. Real templates
write what they are given once or twice."""

MOST_NUMBER = 2**53
"""Beyond it whole numbers have no use in a template, and arithmetic with them no bound."""
MOST_COUNT = 2**12
"""The most that a number may be which says how long a text shall become, as a width does."""
MOST_DEPTH = 64
"""Calls of macros within each other."""

_CONTAINERS = (list, tuple, dict, KeysView, ValuesView, ItemsView)


class Budget:
    """What is left of one rendering's allowance.

    Args:
        given: the template's variables: messages, tools and the like, without what is cyclic.

    Raises:
        TemplateError: by all methods, when the allowance is used up (code ``template-unbounded``).
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._weights: dict[int, tuple[Any, int]] = {}
        self._held: dict[int, weakref.ref[Text]] = {}
        self._depth = 0
        size = _weigh_freely(given)
        most = max((len(value) for value in given.values() if isinstance(value, list)), default=0)
        self._left = _UNITS + _UNITS_FOR_INPUT * size + _UNITS_FOR_PAIRS * most**2
        self._largest = _LARGEST + _LARGEST_FOR_INPUT * size
        self._room = _HELD + _HELD_FOR_INPUT * size
        self._written = _WRITTEN + _WRITTEN_FOR_INPUT * size

    def pay(self, units: int) -> None:
        """Pay for work."""
        self._left -= units
        if self._left < 0:
            refuse("runs for too long")

    def step(self, count: int = 1) -> None:
        """Pay for operations."""
        self.pay(STEP * count)

    def make(self, size: int) -> None:
        """Pay for something of that size, before it is made.

        Args:
            size: characters, or units of a list.
        """
        if size > self._largest:
            refuse(f"makes a text or a list of {size} units; {self._largest} are allowed")
        self.pay(_copying(size))

    def gather(self, count: int) -> None:
        """Pay for a list of that many items, before it is made."""
        self.pay(_ITEM * count)

    def join(self, texts: Sequence[str]) -> None:
        """Pay for putting texts together, before it is done."""
        self.make(sum(map(len, texts)))
        self.pay(len(texts) + sum(len(runs_of(text)) for text in texts))

    def hold(self, text: Text) -> None:
        """Take note of a text that was made, for as long as there is something that holds it."""
        key, size = id(text), len(text)
        if size < _HELD_FROM or key in self._held:
            return

        def let_go(_text: object) -> None:
            del self._held[key]
            self._room += size

        self._held[key] = weakref.ref(text, let_go)
        self._room -= size
        if self._room < 0:
            refuse("keeps too many long texts at once")

    def finish(self, prompt: str) -> None:
        """Check the size of all that was written."""
        if len(prompt) > self._written:
            refuse(f"makes a prompt of {len(prompt)} characters; {self._written} are allowed")

    def weight(self, value: Any) -> int:
        """Units of a value when it is written out; looked up for a list that is known.

        Raises:
            TemplateError: it is larger than anything may be.
        """
        if isinstance(value, str):
            return len(value) + _ITEM * len(runs_of(value))
        if not isinstance(value, _CONTAINERS):
            return _ITEM
        known = self._weights.get(id(value))
        if known is not None:
            return known[1]
        self.pay(_ITEM * len(value))
        total = _ITEM + sum(map(self.weight, _items(value)))
        if total > self._largest:
            refuse(f"makes a list of {total} units; {self._largest} are allowed")
        self._weights[id(value)] = (value, total)  # with the value, so that the id stays its own
        return total

    def read(self, *values: Any) -> None:
        """Pay for reading values in full, as comparing and writing do."""
        for value in values:
            if isinstance(value, str):
                self.pay(_copying(len(value)) + _ITEM * len(runs_of(value)))
            else:
                self.pay(self.weight(value))

    def glance(self, *values: Any) -> None:
        """Pay for going over the items of values once, without looking into them."""
        for value in values:
            if isinstance(value, str):
                self.read(value)
            elif hasattr(value, "__len__"):
                self.pay(len(value))

    def enter(self) -> None:
        """Begin a call of a macro or the like."""
        self._depth += 1
        if self._depth > MOST_DEPTH:
            refuse(f"calls itself more than {MOST_DEPTH} times deep")

    def leave(self) -> None:
        """End it."""
        self._depth -= 1


def refuse(what: str) -> NoReturn:
    """Raise the error of a template that has no bound."""
    raise TemplateError(
        f"The model's chat template {what}. If you trust it, report this; to go on, name another "
        "template with ChatConfig(conv_template=...).",
        code="template-unbounded",
    )


def _copying(size: int) -> int:
    """Units for copying a text of that size."""
    return size if size < _LONG else size // _LONG_PER_UNIT


def _items(value: Any) -> Any:
    if isinstance(value, Mapping):
        return (part for item in value.items() for part in item)
    return value


def _weigh_freely(value: Any) -> int:
    if isinstance(value, str):
        return len(value) + _ITEM
    if isinstance(value, _CONTAINERS):
        return _ITEM + sum(map(_weigh_freely, _items(value)))
    return _ITEM
