"""The walk of a prompt in docs/architecture.md is the one that the code takes."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import mlc_llm

PACKAGE = Path(mlc_llm.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
ROW = re.compile(r"^\| `([\w.]+)` \| `([\w/]+\.py)` \|", re.MULTILINE)


def function(name: str, path: str) -> ast.FunctionDef:
    """The syntax tree of a function or method, which may be nested in a class."""
    body = ast.parse((PACKAGE / path).read_text(encoding="utf-8")).body
    *classes, last = name.split(".")
    for owner in classes:
        (found,) = (n for n in body if isinstance(n, ast.ClassDef) and n.name == owner)
        body = found.body
    (result,) = (n for n in body if isinstance(n, ast.FunctionDef) and n.name == last)
    return result


def called(tree: ast.FunctionDef) -> set[str]:
    """The names of what a function calls, without what they are attributes of."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {call.attr for call in calls if isinstance(call, ast.Attribute)} | {
        call.id for call in calls if isinstance(call, ast.Name)
    }


def test_each_function_calls_the_next() -> None:
    walk = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert walk[0][0] == "ChatModule.generate"
    assert walk[-1][0] == "token_steps"
    engine = ("Engine.stream", "runtime/engine.py")
    for here, after in pairwise(walk):
        # The engine runs what it is given, which is the next of the function before.
        caller = walk[walk.index(here) - 1] if here == engine else here
        name = after[0].rpartition(".")[2]
        assert name in called(function(*caller)), f"{caller[0]} does not call {after[0]}"
        function(*after)


def test_it_passes_through_five_files() -> None:
    walk = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert len({path for _, path in walk}) == 5
    assert "sample" in called(function(*walk[-1]))
