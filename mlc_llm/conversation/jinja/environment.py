"""The sandbox that chat templates run in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jinja2
from jinja2 import ext, nodes
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace

from mlc_llm.conversation.jinja import operations
from mlc_llm.conversation.jinja.budget import MOST_NUMBER, Budget, refuse
from mlc_llm.conversation.jinja.code import ChatCodeGenerator
from mlc_llm.conversation.jinja.costs import pay_for_method
from mlc_llm.conversation.jinja.filters import filters, tests
from mlc_llm.conversation.jinja.formatting import Formatter
from mlc_llm.conversation.jinja.globals import globals_of_templates, make_dict
from mlc_llm.conversation.jinja.origin import GIVEN, TEMPLATE, Text, joined, runs_of

_METHODS: dict[type | tuple[type, ...], frozenset[str]] = {
    str: frozenset(
        "capitalize casefold center count endswith find format index isalnum isalpha isascii "
        "isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper "
        "join ljust lower lstrip partition removeprefix removesuffix replace rfind rindex rjust "
        "rpartition rsplit rstrip split splitlines startswith strip swapcase title upper "
        "zfill".split()
    ),
    dict: frozenset({"get", "items", "keys", "values"}),
    (list, tuple): frozenset({"count", "index"}),
}
"""The methods of values that templates may call. Others are refused: what is not here is not
needed to lay out a prompt, and may be a way to run for ever."""
_OF_THE_COMPILER = frozenset({"_loop_vars", "_block_vars"})
"""Arguments that the compiler adds to calls: variables that are not the callee's."""
_OF_TEMPLATES = (LoopContext, Macro, Namespace, Cycler, Joiner)
"""Objects of jinja2's own, whose attributes are made for templates."""


class Generation(ext.Extension):
    """``{% generation %}``, which marks what a model is trained to write; its content is shown."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        """Read the tag, its content and its end."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """What templates of chat models expect of their environment, as transformers has it.

    On top of jinja2's sandbox it keeps the origin of texts (:mod:`.origin`), and has a template pay
    for what it does (:mod:`.budget`). Each template has an environment of its own.

    Attributes:
        constants: the texts of the template, as its code has them.
        budget: what the rendering that is going on may still do.
    """

    code_generator_class = ChatCodeGenerator
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            finalize=self.written,
            extensions=[ext.loopcontrols, Generation],
        )
        self.constants: list[str] = []
        self.budget = Budget({})
        self.filters.clear()
        self.filters.update(filters(self))
        self.tests.update(tests(self))
        self.globals.clear()
        self.globals.update(globals_of_templates())

    def template(self, source: str) -> jinja2.Template:
        """Compile a template.

        Raises:
            Exception: whatever jinja2 or Python raise for what is not a template.
        """
        self.constants.clear()
        code = self.compile(source)
        self.constants[:] = [Text.of(text, TEMPLATE) for text in self.constants]
        return jinja2.Template.from_code(self, code, self.make_globals(None))

    # What the generated code calls; see ChatCodeGenerator.

    def concat(self, parts: Iterable[str]) -> str:
        """All that a template or a block of it has written."""
        return self.join("", parts)

    def written(self, value: Any) -> str:
        """A value as it is written into the prompt."""
        if isinstance(value, str):
            return value
        self.budget.read(value)
        return str(value)

    def concatenated(self, values: tuple[Any, ...]) -> str:
        """``a ~ b``."""
        return self.join("", values)

    def listed(self, value: Any) -> Any:
        """A list, tuple or dictionary that the template makes."""
        self.budget.step()
        self.budget.weight(value)
        return value

    def looped(self, values: Any) -> Any:
        """What is gone through item by item, paid for."""
        self.budget.step()
        if isinstance(values, Iterator):
            return self.ticking(values)
        if hasattr(values, "__len__"):
            self.budget.step(len(values))
        return values

    def read(self, value: Any) -> Any:
        """A value that is read in full, as operands of comparisons are."""
        self.budget.step()
        self.budget.read(value)
        return value

    def compare(self, sign: str, left: Any, right: Any) -> Any:
        """``left == right`` and the like."""
        self.budget.step()
        return operations.compare(self.budget, sign, left, right)

    def sliced(self, value: Any, start: Any, stop: Any, step: Any) -> Any:
        """``value[start:stop:step]``."""
        self._pay_for_runs(value)
        bounds = slice(start, stop, step)
        if isinstance(value, list | tuple):
            self.budget.gather(len(range(*bounds.indices(len(value)))))
        return self.checked(value[bounds])

    def getattr(self, obj: Any, attribute: str) -> Any:
        """``obj.attribute``."""
        self.budget.step()
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """``obj[argument]``."""
        self._pay_for_runs(obj)
        self.budget.read(argument)
        return super().getitem(obj, argument)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A call of a method, a macro or a global function."""
        budget, receiver = self.budget, getattr(obj, "__self__", None)
        budget.step()
        if isinstance(receiver, str) and obj.__name__ == "join" and len(args) == 1:
            return self.join(receiver, args[0])
        if isinstance(receiver, str | list | tuple | dict):
            own = {name: kwargs[name] for name in kwargs if name not in _OF_THE_COMPILER}
            pay_for_method(budget, receiver, obj.__name__, args, own)
        elif isinstance(obj, LoopContext):
            args = tuple(map(self.looped, args))
        elif isinstance(receiver, LoopContext) or obj is make_dict:
            budget.read(*args)
        budget.enter()
        result = super().call(context, obj, *args, **kwargs)
        budget.leave()
        if isinstance(receiver, str) and isinstance(result, list | tuple):
            return type(result)(map(self.checked, result))
        return result if isinstance(receiver, dict) else self.checked(result)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic, and what the same signs do with texts and lists."""
        return self.operate(operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may have an attribute of an object."""
        for kinds, names in _METHODS.items():
            if isinstance(obj, kinds):
                return attr in names
        return isinstance(obj, _OF_TEMPLATES) and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """``str.format``, which can reach for attributes of its arguments."""
        receiver = getattr(value, "__self__", None)
        if isinstance(receiver, str) and getattr(value, "__name__", "") == "format":
            return Formatter(self, receiver)
        return None

    # What other modules of this package need, too.

    def operate(self, sign: str, left: Any, right: Any) -> Any:
        """``left + right`` and the like."""
        self.budget.step()
        return self.checked(operations.operate(self.budget, sign, left, right))

    def join(self, between: str, values: Iterable[Any]) -> str:
        """Values as they are written, with a text between them."""
        parts: list[str] = []
        for value in values:
            self.budget.step()
            if between and parts:
                parts.append(between)
            parts.append(self.written(value))
        self.budget.join(parts)
        text = joined(parts)
        self.budget.hold(text)
        return text

    def checked(self, result: Any) -> Any:
        """The result of an operation, paid for; with bounds where it has none of its own."""
        if isinstance(result, str):
            self.budget.make(len(result))
            if type(result) is str:
                result = Text.of(result, GIVEN)
            if isinstance(result, Text):
                self.budget.hold(result)
        elif isinstance(result, list | tuple | dict):
            self.budget.glance(result)
        elif isinstance(result, int) and abs(result) > MOST_NUMBER:
            refuse(f"computes a number beyond {MOST_NUMBER}")
        elif isinstance(result, Iterator) and not isinstance(result, LoopContext):
            return self.ticking(result)
        return result

    def ticking(self, values: Iterator[Any]) -> Iterator[Any]:
        """The same values, each paid for when it is asked for."""
        for value in values:
            self.budget.step()
            yield value

    def _pay_for_runs(self, value: Any) -> None:
        """Pay for finding a place in a value."""
        self.budget.step(1 + len(runs_of(value)) // 4 if isinstance(value, str) else 1)
