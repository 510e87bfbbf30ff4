"""The Python code that a chat template becomes: jinja2's, with every operation in sight.

jinja2 compiles a template to Python. Calls, arithmetic, attributes and items are done by methods of
the environment there, filters and tests by functions of it. Here so is the rest that can be costly
or that makes text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame

from mlc_llm.conversation.jinja.budget import MOST_NUMBER


class ChatCodeGenerator(CodeGenerator):
    """Generates code that has a :class:`ChatEnvironment` do

    - ``constants``: the template's own texts;
    - ``listed``: lists, tuples and dictionaries that are made;
    - ``looped``: what a loop runs over;
    - ``compare``: comparisons; of ``a < b < c``, ``read``: the operands;
    - ``sliced``: slices;
    - ``concatenated``: texts put together with ``~``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._passed_to: dict[int, str] = {}

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        """Write the code of a node, in a call of the environment's where that was asked for."""
        if function := self._passed_to.pop(id(node), None):
            self.write(f"environment.{function}(")
            self.visit(node, *args, **kwargs)
            self.write(")")
        elif isinstance(node, nodes.List | nodes.Dict) or _makes_a_tuple(node):
            self.write("environment.listed(")
            super().visit(node, *args, **kwargs)
            self.write(")")
        else:
            super().visit(node, *args, **kwargs)

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        """A loop."""
        self._pass([node.iter], "looped")
        super().visit_For(node, frame)

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        """One comparison, or several, such as ``a < b in c``."""
        if len(node.ops) > 1:
            self._pass([node.expr, *(operand.expr for operand in node.ops)], "read")
            super().visit_Compare(node, frame)
            return
        self.write(f"environment.compare({node.ops[0].op!r}, ")
        self.visit(node.expr, frame)
        self.write(", ")
        self.visit(node.ops[0].expr, frame)
        self.write(")")

    def visit_Const(self, node: nodes.Const, frame: Frame) -> None:
        """A text, a number, or one of ``true``, ``false`` and ``none``."""
        value = node.as_const(frame.eval_ctx)
        if isinstance(value, str):
            self.write(self._constant(value))
            return
        if isinstance(value, int) and abs(value) > MOST_NUMBER:
            self.fail("a number is too large", node.lineno)
        super().visit_Const(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        """``a ~ b ~ c``."""
        self.write("environment.concatenated((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        """``a[b]``, where b may be a slice."""
        if not isinstance(node.arg, nodes.Slice):
            super().visit_Getitem(node, frame)
            return
        self.write("environment.sliced(")
        self.visit(node.node, frame)
        for bound in (node.arg.start, node.arg.stop, node.arg.step):
            self.write(", ")
            self.visit(nodes.Const(None) if bound is None else bound, frame)
        self.write(")")

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        """Text between the template's tags."""
        return self._constant("".join(group))

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        """What is computed while the code is made: nothing, for that would cost nothing."""
        if isinstance(node, nodes.TemplateData):
            return node.data
        if isinstance(node, nodes.Const) and isinstance(node.value, str):
            return node.value
        raise nodes.Impossible()

    def _pass(self, values: Iterable[nodes.Node], function: str) -> None:
        """Have the values of nodes pass through a function of the environment's."""
        self._passed_to.update({id(node): function for node in values})

    def _constant(self, text: str) -> str:
        constants: list[str] = self.environment.constants  # type: ignore[attr-defined]
        constants.append(text)
        return f"environment.constants[{len(constants) - 1}]"


def _makes_a_tuple(node: nodes.Node) -> bool:
    """Whether a tuple is a value, and not names to assign to."""
    return isinstance(node, nodes.Tuple) and node.ctx == "load"
