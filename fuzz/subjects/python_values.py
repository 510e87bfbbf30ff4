"""Python objects where a program gives text, numbers and configurations: what no JSON can hold."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from fuzz.mutation.json_text import json_bytes
from fuzz.subject import Case, Subject
from fuzz.subjects.demo import demo
from mlc_llm import ChatConfig, ChatModule, ConvConfig, GenerationConfig
from mlc_llm.callback import StreamIterator, StreamToStdout
from mlc_llm.conversation import Message
from mlc_llm.plugin import ConversationTemplate


class _Shy:
    """An object that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("not to be shown")


class _ShyText(str):
    def __repr__(self) -> str:
        raise RuntimeError("not to be shown")


def _deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(50_000):
        value = [value]
    return value


def _in_itself() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["a"] = [value]
    return value


VALUES: dict[str, Callable[[], Any]] = {
    "text": lambda: "Hello",
    "none": lambda: None,
    "true": lambda: True,
    "shy": _Shy,
    "shy text": lambda: _ShyText("x"),
    "deep": _deep,
    "in itself": _in_itself,
    "huge": lambda: 10**6000,
    "very negative": lambda: -(10**6000),
    "nan": lambda: math.nan,
    "infinite": lambda: math.inf,
    "half": lambda: "\ud800",
    "long": lambda: "x" * 100_000,
    "many": lambda: [1] * 10_000,
    "bytes": lambda: b"x",
    "class": lambda: _Shy,
    "complex": lambda: 1j,
    "set": lambda: {1},
    "range": lambda: range(3),
    "odd keys": lambda: {1: 2, (3,): _Shy()},
    "message": lambda: {"role": "user", "content": _Shy()},
    "generator": lambda: (item for item in [_Shy()]),
}
"""Objects by name, made afresh each time."""

_TEMPLATE = {"roles": {"user": "U", "assistant": "A"}, "seps": ["\n"]}


def _field(kind: Any, value: Any, random: Random) -> Any:
    name = random.choice([*kind.model_fields, "no_such_field", "self"])
    if random.random() < 0.3:
        setattr(made := kind(), name, value)
        return made
    return kind(**{name: value})


PLACES: dict[str, Callable[[ChatModule, Any, Random], Any]] = {
    "prompt": lambda chat, value, _: chat.generate(value, GenerationConfig(max_gen_len=1)),
    "messages": lambda chat, value, _: chat.generate([value], GenerationConfig(max_gen_len=1)),
    "render": lambda chat, value, _: chat.render(value),
    "history": lambda chat, value, _: setattr(chat, "messages", value),
    "reset": lambda chat, value, _: chat.reset_chat(value),
    "benchmark": lambda chat, value, _: chat.benchmark_generate(value, 1),
    "embed": lambda chat, value, _: chat.embed_text(value),
    "message": lambda _, value, __: Message.of(value),
    "interval": lambda _, value, __: (StreamToStdout(value), StreamIterator(value)),
    "timeout": lambda _, value, __: StreamIterator(timeout=value),
    "chat field": lambda _, value, random: _field(ChatConfig, value, random),
    "template field": lambda _, value, random: _field(ConvConfig, value, random),
    "answer field": lambda _, value, random: _field(GenerationConfig, value, random),
    "template": lambda _, value, random: ConversationTemplate.from_data(
        {**_TEMPLATE, random.choice([*ConversationTemplate.model_fields]): value}, "the template"
    ),
    "model": lambda _, value, __: ChatModule(value, "cpu", None, "no library"),
    "device": lambda _, value, __: ChatModule("demo", value, None, "no library"),
    "library": lambda _, value, __: ChatModule("demo", "cpu", None, value or "no library"),
}
"""Where they are given, by name."""


class PythonValues(Subject):
    """Any object anywhere."""

    name = "python-value"
    share = 0.5

    def seeds(self) -> list[Case]:
        places = ("prompt", "render", "embed", "benchmark")
        return [{"value.json": json_bytes(_given("text", place, 0))} for place in places]

    def mutate(self, name: str, content: bytes, random: Random) -> bytes:
        value, place = random.choice(list(VALUES)), random.choice(list(PLACES))
        return json_bytes(_given(value, place, random.randrange(10**6)))

    def feed(self, folder: Path) -> None:
        given = json.loads((folder / "value.json").read_bytes())
        chat = demo()
        chat.reset_chat()
        random = Random(given["seed"])
        PLACES[given["place"]](chat, VALUES[given["value"]](), random)


def _given(value: str, place: str, seed: int) -> dict[str, Any]:
    return {"value": value, "place": place, "seed": seed}
