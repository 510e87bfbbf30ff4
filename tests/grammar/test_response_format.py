"""What a request may give as ``response_format``, and what it is told of what it may not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from mlc_llm.errors import ConfigError, MLCError
from mlc_llm.grammar import ResponseFormat
from mlc_llm.testing import raises
from mlc_llm.tokenizer import Tokenizer

from .conftest import Compile
from .random_model import RandomModel

REGEXES = [
    r"[a-c]{2,5}x?",
    r"^\d{3}-\d{4}$",
    r"(Mo|Tu|We|Th|Fr|Sa|Su)day",
    r"[a-zäöü]+ [A-Z]\.",
    r"(?i)hello, (world|moon)!*",
    r"/[a-z/]*\\?",
    r"[α-ω]{1,3}|\x41\u00e9",
    r".{0,20}\n.{0,20}",
    r"(?s)a.b{1,4}",
    r"(?x) a b  # a comment",
]


@pytest.mark.parametrize("regex", REGEXES)
@pytest.mark.parametrize("form", ["regex", "definition"])
def test_a_regular_expression_matches_every_answer(
    tokenizer: Tokenizer, model: RandomModel, grammar: Compile, regex: str, form: str
) -> None:
    given = {"type": "regex", "regex": regex}
    if form == "definition":
        given = {"type": "grammar", "syntax": "regex", "definition": regex}
    compiled = grammar(given)
    for seed in range(4):
        tokens = model.answer(compiled.start(model.stop_ids), seed, forced=seed % 2 == 1)
        text = tokenizer.decode(tokens)
        assert re.fullmatch(regex, text), text


SUMS = """
start: sum
sum: product (("+" | "-") product)*
product: number ("*" number)*
number: DIGITS | "(" sum ")"
DIGITS: /[1-9][0-9]{0,3}/
"""


@pytest.mark.parametrize(
    "given", [{"grammar": SUMS}, {"syntax": "lark", "definition": SUMS}], ids=["grammar", "openai"]
)
def test_a_grammar(
    tokenizer: Tokenizer, model: RandomModel, grammar: Compile, given: dict[str, Any]
) -> None:
    compiled = grammar({"type": "grammar", **given})
    for seed in range(3):
        tokens = model.answer(compiled.start(model.stop_ids), seed)
        text = tokenizer.decode(tokens)
        assert set(text) <= set("0123456789+-*()")
        assert isinstance(eval(text), int)


def test_a_grammar_with_json_in_it(
    demo: Tokenizer, demo_model: RandomModel, demo_grammar: Compile
) -> None:
    lark = 'start: "Call: " call\ncall: %json {"type": "object", "required": ["name"]}'
    compiled = demo_grammar({"type": "grammar", "grammar": lark})
    for seed in range(3):
        text = demo.decode(demo_model.answer(compiled.start(demo_model.stop_ids), seed))
        assert text.startswith("Call: ")
        assert "name" in json.loads(text.removeprefix("Call: "))


TAGS = {
    "type": "structural_tag",
    "structures": [
        {
            "begin": "<call=add>",
            "schema": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
            "end": "</call>",
        },
        {"begin": "<call=say>", "schema": {"type": "string"}, "end": "</call>"},
    ],
    "triggers": ["<call="],
}


def test_structural_tags(demo: Tokenizer, demo_grammar: Compile) -> None:
    """Any text; after a trigger, one of the structures."""
    compiled = demo_grammar(TAGS)

    def accepted(text: str) -> bool:
        constraint = compiled.start((), continues=True)
        tokens = demo.encode(text, continues=True)
        if constraint.count_allowed(tokens) < len(tokens):
            return False
        for token in tokens:
            constraint.accept(token)
        return constraint.may_end

    assert accepted("Just text.\nAnd <b>more</b> of it")
    assert accepted('First <call=add>[1, 2]</call> and <call=say>"x"</call> so.')
    assert not accepted("Then <call=add>[1]</call>")
    assert not accepted("Then <call=sub>[1, 2]</call>")
    assert not accepted("Then <call=add>[1, 2]")


def test_text_and_nothing_allow_anything() -> None:
    assert ResponseFormat.parse(None) is None
    assert ResponseFormat.parse({"type": "text"}) is None


def test_what_is_parsed_is_a_value() -> None:
    one = ResponseFormat.parse({"type": "regex", "regex": "a"})
    assert ResponseFormat.parse(one) is one
    assert one == ResponseFormat.parse({"type": "regex", "regex": "a"})
    assert one != ResponseFormat.parse({"type": "regex", "regex": "b"})
    assert hash(one) is not None


SCHEMA = {"type": "object"}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (3, ["3"]),
        ("json_object", ["'json_object'"]),
        ([], ["[]"]),
        ({}, ["None", "json_schema"]),
        ({"type": "json"}, ["'json'", "json_object"]),
        ({"type": ["text"]}, ["['text']"]),
        ({"type": "text", "schema": SCHEMA}, ["'schema'"]),
        ({"type": "json_object", "json_schema": SCHEMA}, ["'json_schema'", "'schema'"]),
        ({"type": "json_schema"}, ["'json_schema'"]),
        ({"type": "json_schema", "json_schema": "{}"}, ["json_schema", "'{}'"]),
        ({"type": "json_schema", "json_schema": SCHEMA}, ["json_schema", "'type'"]),
        ({"type": "json_schema", "json_schema": {"name": "a"}}, ["json_schema", "'schema'"]),
        (
            {"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": "yes"}},
            ["json_schema.strict", "'yes'"],
        ),
        ({"type": "regex", "pattern": "a"}, ["'pattern'"]),
        ({"type": "regex", "regex": 3}, ["regex", "3"]),
        ({"type": "regex", "regex": ""}, ["empty"]),
        ({"type": "regex", "regex": "a" * 32_001}, ["32001", "32000"]),
        ({"type": "regex", "regex": "\ud800"}, ["Unicode"]),
        ({"type": "regex", "regex": "ab["}, ["ab[", "unclosed character class"]),
        ({"type": "regex", "regex": "a(?=b)"}, ["look-ahead"]),
        ({"type": "regex", "regex": r"(a)\1"}, ["backreferences"]),
        ({"type": "regex", "regex": r"\bend"}, [r"\bend"]),
        ({"type": "regex", "regex": "(?:a{1000}){1000}"}, ["too complex"]),
        ({"type": "regex", "regex": "(a|aa){500}b"}, ["too complex"]),
        ({"type": "grammar", "grammar": "start: b"}, ["1(8)", '"b"']),
        ({"type": "grammar", "grammar": 'start: "a'}, ["1(10)"]),
        ({"type": "grammar", "grammar": 'begin: "a"'}, ["start"]),
        ({"type": "grammar", "grammar": ""}, ["start"]),
        ({"type": "grammar", "grammar": "start: start"}, ["allows no text"]),
        ({"type": "grammar", "grammar": '{"grammars": []}'}, ["1(1)"]),
        ({"type": "grammar", "grammar": 'start: "a"', "strict": True}, ["'strict'"]),
        ({"type": "grammar", "syntax": "gbnf", "definition": "a"}, ["'gbnf'", "lark", "regex"]),
        (
            {"type": "grammar", "grammar": 'start: a "x"\na[temperature=0.5]: /b*/'},
            ["line 2", "'temperature'"],
        ),
        ({"type": "grammar", "grammar": 'start: a\na[capture, stop="x"]: /b*/'}, ["'stop'"]),
        ({"type": "grammar", "grammar": 'start: %json {"uniqueItems": true}'}, ["uniqueItems"]),
        (
            {
                "type": "grammar",
                "grammar": 'start: %json {"x-guidance": {"lenient": true}, "uniqueItems": true}',
            },
            ["uniqueItems"],
        ),
        ({**TAGS, "structures": []}, ["structures"]),
        ({**TAGS, "triggers": [""]}, ["triggers"]),
        ({**TAGS, "triggers": ["<tool"]}, ["structures[0].begin", "<tool"]),
        (
            {**TAGS, "structures": [{"begin": "<call=a", "schema": {"not": {}}, "end": ""}]},
            ["'not'"],
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_refused(value: object, told: list[str]) -> None:
    with raises("response-format-invalid", *told, error=ConfigError):
        ResponseFormat.parse(value)


def test_without_llguidance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert ResponseFormat.parse({"type": "text"}) is None
    with raises("llguidance-missing", "mlc-llm[grammar]", error=MLCError):
        ResponseFormat.parse({"type": "json_object"})


def test_llguidance_is_imported_when_it_is_needed() -> None:
    code = """
import sys
from mlc_llm.grammar import GrammarCompiler, ResponseFormat
assert ResponseFormat.parse({"type": "text"}) is None
assert not {"llguidance", "tvm", "torch"} & set(sys.modules)
ResponseFormat.parse({"type": "json_object"})
assert "llguidance" in sys.modules and "tvm" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
