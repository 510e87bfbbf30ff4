"""Grammars in llguidance's form, made of what users write, and checked without a model."""

from __future__ import annotations

import json
import re
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mlc_llm.errors import ConfigError
from mlc_llm.files import is_nested_deeper
from mlc_llm.grammar.json_schema import check_keywords, place_of
from mlc_llm.grammar.matcher import failure, is_stuck, new_matcher, with_deep_stack
from mlc_llm.runtime.constraint import token_ids
from mlc_llm.shown import shown

if TYPE_CHECKING:
    from llguidance import LLTokenizer

WHITE_SPACE = r"[ \t]{1,64}|\r?\n[ \t]{0,64}"
"""What may stand between the parts of JSON, at most once. Without a bound, models that are not sure
how to go on write line breaks until they run out of tokens."""

_NOT_FOLLOWED = re.compile(r"^[?!]*[\w-]+\s*\[[^\]]*\b(temperature|stop)\s*=", re.MULTILINE)
"""Options of a Lark rule that change how tokens are drawn, or take tokens back."""

_NEEDS_TOKENIZER = "no tokenizer"
"""How llguidance begins its warning that a special token was not looked up."""


def of_schema(schema: object, place: str) -> str:
    """The grammar of what fits a JSON schema, which may be given as JSON text."""
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError) as failure:
            raise _refused(f"{place} is not valid JSON: {failure}.") from None
    if not isinstance(schema, dict):
        raise _refused(f"{place} must be a JSON schema, which is an object, not {shown(schema)}.")
    if is_nested_deeper(schema):
        raise _refused(f"{place} is nested too deeply.")
    check_keywords(schema)
    grammar = _schema_grammar(schema, place)
    if message := _message(grammar):
        place = f"{place} at {place_of(message, schema, lambda s: _message(_schema_grammar(s)))}"
        raise _refused(f"{place}: {message.split(' Enable ')[0].rstrip('.')}.")
    return grammar


def _schema_grammar(schema: dict[str, Any], place: str = "") -> str:
    from llguidance import LLMatcher

    try:
        return LLMatcher.grammar_from_json_schema(
            json.dumps(schema, allow_nan=False),
            {"whitespace_pattern": WHITE_SPACE},
        )
    except (TypeError, ValueError) as failure:
        raise _refused(f"{place} is not JSON: {failure}.") from None


def of_regex(regex: str) -> str:
    from llguidance import LLMatcher

    grammar = LLMatcher.grammar_from_regex(regex)
    if message := _message(grammar):
        # llguidance says this of a Lark grammar that has the expression in its first line.
        message = message.split("(in regex): ")[-1].split("\n   1 | ")[0]
        raise _refused(f"The regular expression of response_format is wrong: {message}")
    return grammar


def of_lark(lark: str) -> str:
    if option := _NOT_FOLLOWED.search(lark):
        line = lark.count("\n", 0, option.start()) + 1
        raise _refused(
            f"The grammar of response_format has in line {line} the option {option[1]!r}, which is "
            "not followed. Leave it out; 'suffix' or 'lazy' does what 'stop' is mostly for."
        )
    grammar = json.dumps({"grammars": [{"lark_grammar": lark}]})
    if message := _message(grammar):
        raise _refused(f"The grammar of response_format is wrong: {message}")
    return grammar


def _message(grammar: str) -> str:
    """What is wrong with a grammar in llguidance's form; empty for nothing."""
    from llguidance import LLMatcher

    _, messages = with_deep_stack(partial(LLMatcher.validate_grammar_with_warnings, grammar))
    if messages:
        wrong = [message for message in messages if not message.startswith(_NEEDS_TOKENIZER)]
        return "\n".join(wrong).strip()
    return _first_failure(grammar)


def _first_failure(grammar: str) -> str:
    """What goes wrong before the second byte of an answer; empty for nothing."""
    matcher = new_matcher(_byte_tokenizer(), grammar)
    allowed = token_ids(np.frombuffer(matcher.compute_bitmask(), np.uint32), 256)
    if allowed.size:
        matcher.consume_token(int(allowed[0]))
        matcher.compute_bitmask()
    elif is_stuck(matcher) or not matcher.is_error():
        return "it allows no text, or the empty one only"
    reason = failure(matcher)
    return reason and f"it is too complex ({reason}); use smaller bounds of repetitions"


@cache
def _byte_tokenizer() -> LLTokenizer:
    """A tokenizer whose tokens are the bytes, for grammars whose model is not known yet."""
    from llguidance import LLTokenizer, TokenizerWrapper

    class Bytes:
        eos_token_id, bos_token_id = 256, None
        special_token_ids = (256,)
        tokens = (*(bytes([byte]) for byte in range(256)), b"end")

        def __call__(self, text: bytes) -> list[int]:
            return list(text)

    return LLTokenizer(TokenizerWrapper(Bytes()))


def _refused(message: str) -> ConfigError:
    return ConfigError(message, code="response-format-invalid")
