"""The messages that the source can show a user, read from its syntax trees.

A message is a text in which ``FIELD`` stands for each value that is filled in when it is shown.
Names are followed: constants of modules, variables that were assigned before, and functions that
return the text.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mlc_llm import errors

ROOT = Path(__file__).resolve().parents[2]
FIELD = "\0"

_MOST_ALTERNATIVES = 64
_DEEPEST = 6

SHOWN = {
    *(name for name in vars(errors) if name.endswith("Error")),
    *(name for name, value in vars(builtins).items() if name.endswith("Error")),
    "UsageError",
    "Unavailable",
}
"""What is called with a message as its first argument."""

REASON_FUNCTIONS = {
    "mlc_llm/library/record.py": {"_examine", "_find_record", "check_record"},
    "mlc_llm/library/object_file.py": {"object_problem"},
    "mlc_llm/library/jit.py": {"_misfit"},
    "mlc_llm/library/cache.py": {"problem"},
    "mlc_llm/library/trust.py": {"owner_problem"},
    "mlc_llm/compile/child.py": {"_failure"},
    "mlc_llm/device/cpu/__init__.py": {"mismatch"},
    "mlc_llm/registry/probing.py": {"_read"},
}
"""Functions that return a reason, which becomes a part of a message elsewhere."""


@dataclass(frozen=True)
class Message:
    """A message, and where the source makes it."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text.replace(FIELD, '{}')}"

    @property
    def opaque(self) -> bool:
        """Whether it is nothing but what was caught or made elsewhere."""
        return sum(letter.isalpha() for letter in self.text) < 6


@functools.cache
def all_messages() -> tuple[Message, ...]:
    """Every message of the core and of the plugins that come with it."""
    found: dict[tuple[str, str], Message] = {}
    for path in _files():
        for message in _Module.of(path).messages():
            found.setdefault((message.file, message.text), message)
    return tuple(found.values())


@functools.cache
def all_texts() -> tuple[str, ...]:
    """The messages, and every other text of the source but its documentation."""
    texts = {message.text for message in all_messages()}
    for path in _files():
        texts.update(_Module.of(path).literals())
    return tuple(texts)


def _files() -> Iterator[Path]:
    for folder in (ROOT / "mlc_llm", *sorted((ROOT / "plugins").glob("*/mlc_llm_*"))):
        for path in sorted(folder.rglob("*.py")):
            # What the conformance suites say is for the authors of plugins.
            if path.relative_to(ROOT).parts[:2] != ("mlc_llm", "testing"):
                yield path


Function = ast.FunctionDef | ast.AsyncFunctionDef


class _Module:
    """One source file."""

    _all: ClassVar[dict[Path, _Module]] = {}

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.relative_to(ROOT).as_posix()
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = list(ast.walk(self.tree))
        self.functions = {node.name: node for node in nodes if isinstance(node, Function)}
        self.imports = {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in nodes
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    @classmethod
    def of(cls, path: Path) -> _Module:
        if path not in cls._all:
            cls._all[path] = cls(path)
        return cls._all[path]

    def messages(self) -> Iterator[Message]:
        yield from self._in(self.tree, None)
        for name in sorted(REASON_FUNCTIONS.get(self.file, ())):
            function = self.functions[name]
            for value in _returns(function):
                for text in self.texts(value, function):
                    yield Message(self.file, value.lineno, text)

    def literals(self) -> Iterator[str]:
        """Every text that stands in the file, except documentation."""
        said = {id(node.value) for node in ast.walk(self.tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(self.tree):
            match node:
                case ast.Constant(value=str(text)) if id(node) not in said:
                    yield text
                case ast.JoinedStr() | ast.Call(func=ast.Name(id="unknown")):
                    yield from self.texts(node, None)

    def _in(self, node: ast.AST, function: Function | None) -> Iterator[Message]:
        for child in ast.iter_child_nodes(node):
            inner = child if isinstance(child, Function) else function
            if isinstance(child, ast.Call):
                for value in _arguments(child):
                    for text in self.texts(value, inner):
                        yield Message(self.file, child.lineno, text)
            yield from self._in(child, inner)

    def texts(self, node: ast.AST | None, function: Function | None, depth: int = 0) -> list[str]:
        """What an expression may be as a text."""
        found = self._alternatives(node, function, depth) if depth < _DEEPEST else []
        texts = list(dict.fromkeys(" ".join(text.split(" ")) for text in found))
        return texts if 0 < len(texts) <= _MOST_ALTERNATIVES else [FIELD]

    def _alternatives(
        self, node: ast.AST | None, function: Function | None, depth: int
    ) -> list[str]:
        again = functools.partial(self.texts, function=function, depth=depth + 1)
        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.JoinedStr(values=parts):
                return _joined(again(part) for part in parts)
            case ast.FormattedValue(value=ast.Name() as name):
                return [self._constant(name.id) or FIELD]
            case ast.FormattedValue(value=ast.Call() as call):
                return again(call)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return _joined([again(left), again(right)])
            case ast.IfExp(body=first, orelse=second):
                return [*again(first), *again(second)]
            case ast.BoolOp(values=values):
                return [text for value in values for text in again(value)]
            case ast.Name(id=name):
                constant = self._constant(name)
                return [constant] if constant else self._assigned(name, function, depth)
            case ast.Call():
                return self._called(node, function, depth)
        return []

    def _constant(self, name: str) -> str | None:
        """The text that a name in capitals stands for in this module."""
        if not name.isupper() or self.path.name == "__main__.py":
            return None
        if self.file.startswith("plugins/"):
            module = self.path.parent.name
        else:
            module = self.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        value = getattr(importlib.import_module(module), name, None)
        return value if isinstance(value, str) else None

    def _assigned(self, name: str, function: Function | None, depth: int) -> list[str]:
        found = []
        for node in ast.walk(function) if function else ():
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in targets:
                if isinstance(target, ast.Name) and target.id == name:
                    found += self.texts(node.value, function, depth + 1)
                elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    for part, value in zip(target.elts, node.value.elts, strict=False):
                        if isinstance(part, ast.Name) and part.id == name:
                            found += self.texts(value, function, depth + 1)
        return found

    def _called(self, call: ast.Call, function: Function | None, depth: int) -> list[str]:
        match call.func:
            case ast.Name(id="unknown"):
                kinds = self.texts(call.args[0], function, depth + 1)
                return [
                    f"Unknown {kind} {FIELD}.{hint} Known: {FIELD}."
                    for kind in kinds
                    for hint in ("", f" Did you mean {FIELD}?")
                ]
            case ast.Attribute(value=inner, attr="strip" | "rstrip"):
                return self.texts(inner, function, depth + 1)
            case ast.Attribute(value=ast.Constant(), attr="join") if isinstance(
                call.args[0], ast.GeneratorExp
            ):
                return self.texts(call.args[0].elt, function, depth + 1)
            case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
                module, callee = self._definition(name)
                if module is not None and callee is not None:
                    values = [module.texts(value, callee, depth + 1) for value in _returns(callee)]
                    return [text for texts in values for text in texts]
        return []

    def _definition(self, name: str) -> tuple[_Module | None, Function | None]:
        if name in self.functions:
            return self, self.functions[name]
        module, original = self.imports.get(name, ("", ""))
        path = ROOT / f"{module.replace('.', '/')}.py"
        if module.startswith("mlc_llm.") and path.is_file():
            there = _Module.of(path)
            return there, there.functions.get(original)
        return None, None


def _arguments(call: ast.Call) -> Iterator[ast.AST]:
    """The arguments of a call that are shown to a user."""
    match call.func:
        case ast.Name(id="Availability"):
            yield from (word.value for word in call.keywords if word.arg == "reason")
        case ast.Name(id="NotFound") if len(call.args) > 1 and isinstance(call.args[1], ast.Tuple):
            pairs = (pair for pair in call.args[1].elts if isinstance(pair, ast.Tuple))
            yield from (pair.elts[1] for pair in pairs)
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in SHOWN and call.args:
            yield call.args[0]
        # A class that was given as an argument, and the one of a kind of plugin.
        case ast.Name(id="error") | ast.Attribute(value=ast.Name(id="kind"), attr="error"):
            yield call.args[0]
        case ast.Attribute(value=ast.Name(id="logger"), attr="warning" | "error" | "exception"):
            yield call.args[0]


def _returns(function: Function) -> list[ast.expr]:
    """What a function returns, leaving out the functions inside of it; an error's own text."""
    values = []
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, Function | ast.Lambda):
            continue
        if isinstance(node, ast.Return) and node.value is not None:
            values.append(node.value)
        waiting += ast.iter_child_nodes(node)
    return values


def _joined(parts: Iterable[list[str]]) -> list[str]:
    combined = itertools.product(*parts)
    return ["".join(texts) for texts in itertools.islice(combined, _MOST_ALTERNATIVES + 1)]
