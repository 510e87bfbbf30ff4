"""Every answer fits its schema, by the judgement of the ``jsonschema`` package.

``schemas.json`` has schemas of the kinds that JSONSchemaBench collects.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import re
import uuid
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field

from mlc_llm.errors import ConfigError
from mlc_llm.grammar import ResponseFormat
from mlc_llm.grammar.json_schema import ANNOTATIONS, ENFORCED, UNSUPPORTED
from mlc_llm.testing import raises
from mlc_llm.tokenizer import Tokenizer

from .conftest import Compile
from .random_model import RandomModel

KINDS = json.loads((Path(__file__).parent / "schemas.json").read_text(encoding="utf-8"))
SCHEMAS = {f"{kind}, {name}": s for kind, named in KINDS.items() for name, s in named.items()}

TIME = re.compile(
    r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
"""``full-time`` of RFC 3339."""


def full_date_time(text: str) -> bool:
    date, time = text[:10], text[11:]
    datetime.date.fromisoformat(date)
    return text[10] in "Tt " and TIME.fullmatch(time) is not None


JUDGES: dict[str, Callable[[str], object]] = {
    "date": lambda text: len(text) == 10 and datetime.date.fromisoformat(text),
    "time": TIME.fullmatch,
    "date-time": full_date_time,
    "email": re.compile(r"[^@\s]+@([A-Za-z0-9.-]+|\[.*\])").fullmatch,
    "uuid": lambda text: str(uuid.UUID(text)) == text.lower(),
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "hostname": re.compile(
        r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*"
    ).fullmatch,
}
"""What a text must be by each format: something true, and no error."""


def check(instance: Any, schema: Any) -> None:
    """Fail unless an instance fits a schema, formats included."""
    formats = jsonschema.FormatChecker(formats=())
    for name, judge in JUDGES.items():
        formats.checks(name, raises=ValueError)(
            lambda value, judge=judge: not isinstance(value, str) or bool(judge(value))
        )
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    kind.check_schema(schema)
    kind(schema, format_checker=formats).validate(instance)


@pytest.mark.matrix
@pytest.mark.parametrize("name", SCHEMAS)
def test_every_answer_fits_its_schema(
    tokenizer: Tokenizer, model: RandomModel, grammar: Compile, name: str
) -> None:
    schema = SCHEMAS[name]
    given = {"name": "answer", "schema": schema, "strict": True}
    compiled = grammar({"type": "json_schema", "json_schema": given})
    for seed, forced in ((0, False), (1, True)):
        tokens = model.answer(compiled.start(model.stop_ids), seed, forced=forced)
        check(json.loads(tokenizer.decode(tokens)), schema)


@pytest.mark.parametrize("name", SCHEMAS)
def test_many_answers_fit_their_schema(
    demo: Tokenizer, demo_model: RandomModel, demo_grammar: Compile, name: str
) -> None:
    compiled = demo_grammar({"type": "json_object", "schema": json.dumps(SCHEMAS[name])})
    texts = set()
    for seed in range(10):
        tokens = demo_model.answer(compiled.start(demo_model.stop_ids), seed)
        texts.add(demo.decode(tokens))
    for text in texts:
        check(json.loads(text), SCHEMAS[name])
    assert len(texts) > 1 or name == "small, null"


def test_json_object(demo: Tokenizer, demo_model: RandomModel, demo_grammar: Compile) -> None:
    compiled = demo_grammar({"type": "json_object"})
    for seed in range(10):
        tokens = demo_model.answer(compiled.start(demo_model.stop_ids), seed)
        assert isinstance(json.loads(demo.decode(tokens)), dict)


def test_white_space_has_a_bound(demo: Tokenizer, demo_grammar: Compile) -> None:
    """One line break, and 64 blanks: a model that likes blanks most goes on all the same."""
    constraint = demo_grammar({"type": "json_object"}).start(())
    for text in ("{", "\n", " " * 64):
        for token in demo.encode(text, continues=True):
            constraint.accept(token)
    for blank in (" ", "\n", "\t", "\r"):
        assert constraint.count_allowed(demo.encode(blank, continues=True)) == 0
    assert constraint.count_allowed(demo.encode("}", continues=True)) == 1


@pytest.mark.parametrize("keyword", ["uniqueItems", "not", "if", "contains", "dependentRequired"])
def test_a_keyword_that_cannot_be_enforced(keyword: str) -> None:
    inner = {"type": "array", keyword: {}}
    schema = {"type": "object", "properties": {"a/b": {"anyOf": [{"type": "null"}, inner]}}}
    with raises(
        "response-format-invalid", repr(keyword), "#/properties/a~1b/anyOf/1", error=ConfigError
    ):
        ResponseFormat.parse({"type": "json_object", "schema": schema})


def test_every_keyword_of_the_standard_is_enforced_or_named() -> None:
    """Of all drafts from 4 on, but for those that restrict nothing."""
    drafts = [jsonschema.Draft4Validator, jsonschema.Draft202012Validator]
    keywords = {keyword for draft in drafts for keyword in draft.VALIDATORS}
    assert keywords <= ENFORCED | UNSUPPORTED
    assert not keywords & ANNOTATIONS
    assert len(keywords) > 30


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"items": {"minLenght": 3}}, ["#/items", "'minLenght'", "'minLength'"]),
        ({"x-guidance": {"lenient": True}, "uniqueItems": True}, ["'x-guidance'"]),
        ({"items": {"items": {"format": "colour"}}}, ["#/items/items", "format", "colour"]),
        ({"properties": {"a": {"pattern": "a(?=b)"}}}, ["#/properties/a", "look-ahead"]),
        ({"properties": {"a": {"pattern": "["}}}, ["#/properties/a", "unclosed character class"]),
        ({"anyOf": [{}, {"type": "strng"}]}, ["#/anyOf/1", "strng"]),
        ({"$defs": {"a": {"type": 3}}, "$ref": "#/$defs/a"}, ["#/$defs/a", "type"]),
        ({"items": {"$ref": "#/$defs/b"}}, ["#/items", "/$defs/b"]),
        ({"items": {"$ref": "https://example.org/b"}}, ["#/items", "https://example.org/b"]),
        ({"required": "a"}, ["#", "required"]),
        ({"oneOf": [{"type": "string"}, {"maxLength": 3}]}, ["#", "oneOf"]),
        ({"type": "string", "minLength": 3, "maxLength": 2}, ["#", "minLength", "maxLength"]),
        ({"patternProperties": {"^a": {}, "^ab": False}}, ["#", "disjoint"]),
        ({"enum": []}, ["#", "anyOf is empty"]),
    ],
    ids=str,
)
def test_a_schema_that_is_refused(schema: Any, told: list[str]) -> None:
    given = {"name": "answer", "schema": schema}
    with raises("response-format-invalid", *told, error=ConfigError):
        ResponseFormat.parse({"type": "json_schema", "json_schema": given})


def nested(levels: int) -> Any:
    schema: Any = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


def chained(links: int) -> Any:
    named = {f"a{i}": {"items": {"$ref": f"#/$defs/a{i + 1}"}} for i in range(links)}
    return {"$ref": "#/$defs/a0", "$defs": {**named, f"a{links}": {}}}


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ("[]", "[]"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        (True, "True"),
        (None, "None"),
        ({"const": float("nan")}, "not JSON"),
        ({"const": b"a"}, "not JSON"),
        ({"const": "\ud800"}, "not JSON"),
        (nested(500), "nested too deeply"),
        (chained(20_000), "5000"),
    ],
    ids=lambda value: str(value)[:20] if not isinstance(value, dict) else "schema",
)
def test_what_is_no_schema_or_too_much_of_one(schema: Any, told: str) -> None:
    given = {"name": "answer", "schema": schema}
    with raises("response-format-invalid", told, error=ConfigError):
        ResponseFormat.parse({"type": "json_schema", "json_schema": given})


def test_deep_references_do_not_overflow_the_stack() -> None:
    assert ResponseFormat.parse({"type": "json_object", "schema": chained(2000)})


def test_a_pydantic_model(demo: Tokenizer, demo_model: RandomModel, demo_grammar: Compile) -> None:
    class Colour(Enum):
        RED = "red"
        BLUE = "blue"

    class Point(BaseModel):
        kind: Literal["point"]
        x: int
        y: int = 0

    class Circle(BaseModel):
        kind: Literal["circle"]
        centre: Point
        radius: float = Field(gt=0, le=10)

    class Picture(BaseModel):
        name: str = Field(max_length=20)
        colour: Colour | None
        shapes: list[Point | Circle] = Field(min_length=1, max_length=2)

    compiled = demo_grammar(Picture)
    for seed in range(5):
        tokens = demo_model.answer(compiled.start(demo_model.stop_ids), seed)
        assert Picture.model_validate_json(demo.decode(tokens)).shapes


def test_a_pydantic_model_without_a_schema() -> None:
    class Button(BaseModel):
        pressed: Callable[[], None]

    with raises("response-format-invalid", "Button", error=ConfigError):
        ResponseFormat.parse(Button)
