"""The walks of a prompt and of a model in docs/architecture.md are those that the code takes."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import mlc_llm

PACKAGE = Path(mlc_llm.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
ROW = re.compile(r"^\| `([\w.]+)` \| `([\w/]+\.py)` \|(?: (?:`([\w.]+)`)? ?\|)?", re.MULTILINE)


def walk(section: str) -> list[tuple[str, str, str]]:
    """The rows of a section's table: a function, its file, and what calls it if that is said."""
    text = PAGE.read_text(encoding="utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    return ROW.findall(text)


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
    rows = [row[:2] for row in walk("From a prompt to an answer")]
    assert rows[0][0] == "ChatModule.generate"
    assert rows[-1][0] == "Generation._choose"
    threads = ("Engine.submit", "Engine._step")  # one hands over to the other
    for here, after in pairwise(rows):
        tree, name = function(*here), after[0].rpartition(".")[2]
        function(*after)
        if (here[0], after[0]) != threads:
            assert name in called(tree), f"{here[0]} does not call {after[0]}"


def test_an_answer_passes_through_six_files() -> None:
    rows = [row[:2] for row in walk("From a prompt to an answer")]
    assert len({path for _, path in rows}) == 6
    assert "sample" in called(function(*rows[-1]))


def test_each_step_of_loading_is_called_by_another() -> None:
    rows = walk("From a model's name to a model that runs")
    places = {name: path for name, path, _ in rows}
    assert rows[0][0] == "ChatModule.__init__"
    assert "load_parameters" in places
    for name, path, caller in rows[1:]:
        tree, last = function(caller, places[caller]), name.rpartition(".")[2]
        # A hook is called by its name; a class's method by the class.
        hooks = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert last in called(tree) | hooks, f"{caller} does not call {name}"
        function(name, path)
