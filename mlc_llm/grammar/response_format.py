"""What an answer must look like, as a request says it (``response_format``), checked at once.

The forms are those of OpenAI, of MLC LLM, and of the servers of the field:

| ``type`` | other fields | the answer is |
|---|---|---|
| ``text`` | | anything |
| ``json_object`` | | a JSON object |
| ``json_object`` | ``schema`` (MLC LLM) | JSON that fits the schema |
| ``json_schema`` | ``json_schema: {name, schema, strict}`` | JSON that fits the schema |
| ``regex`` | ``regex`` | a text that the regular expression matches, as a whole |
| ``grammar`` | ``grammar``, or ``syntax`` and ``definition`` (OpenAI) | what a Lark grammar makes |
| ``structural_tag`` | ``structures``, ``triggers`` | text with structures that fit schemas |

Nothing of it is ever enforced in part: what cannot be enforced is an error.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, PydanticUserError

from mlc_llm.errors import ConfigError, MLCError, unknown
from mlc_llm.grammar.checked import of_lark, of_regex, of_schema
from mlc_llm.shown import shown

MOST_CHARACTERS = 32_000
"""Of a regular expression or a Lark grammar: checking takes up to the square of it."""


@dataclass(frozen=True)
class ResponseFormat:
    """What an answer must look like.

    Args:
        grammar: in llguidance's form.
    """

    grammar: str

    @classmethod
    def parse(cls, value: object) -> ResponseFormat | None:
        """Read what a request gives as ``response_format``.

        Args:
            value: a mapping with a ``type`` as above; a pydantic model's class, for its schema;
                what this function returned; or None.

        Returns:
            None where the answer may be anything.

        Raises:
            ConfigError: it is malformed, or has what cannot be enforced.
            MLCError: llguidance is not installed.
        """
        if value is None or isinstance(value, ResponseFormat):
            return value
        if isinstance(value, type) and issubclass(value, BaseModel):
            require_llguidance()
            return cls(of_schema(_schema_of(value), value.__name__))
        if not isinstance(value, Mapping):
            raise _refused(
                f"response_format must be an object with a 'type', or a pydantic model's class, "
                f"not {shown(value)}."
            )
        kind = value.get("type")
        if kind == "text":
            _fields(value, "response_format")
            return None
        if not isinstance(kind, str) or kind not in _KINDS:
            raise _refused(unknown("type of response_format", kind, ["text", *_KINDS]))
        require_llguidance()
        return cls(_KINDS[kind](value))


def require_llguidance() -> None:
    """Check that answers can be constrained.

    Raises:
        MLCError: llguidance is not installed.
    """
    if importlib.util.find_spec("llguidance") is None:
        raise MLCError(
            "An answer that must match a grammar needs the package llguidance, which is not "
            'installed. Install it with: pip install "mlc-llm[grammar]"',
            code="llguidance-missing",
        )


def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    try:
        return model.model_json_schema()
    except PydanticUserError as failure:
        raise _refused(f"{model.__name__} has no JSON schema: {failure}") from None


def _json_object(value: Mapping[str, Any]) -> str:
    _fields(value, "response_format", optional=("schema",))
    schema = value.get("schema")
    return of_schema({"type": "object"} if schema is None else schema, "response_format.schema")


def _json_schema(value: Mapping[str, Any]) -> str:
    place = "response_format.json_schema"
    _fields(value, "response_format", ("json_schema",))
    given = value["json_schema"]
    if not isinstance(given, Mapping):
        raise _refused(f"{place} must be an object with a 'schema', not {shown(given)}.")
    _fields(given, place, ("schema",), ("name", "description", "strict"), typed=False)
    if not isinstance(given.get("strict"), bool | None):
        raise _refused(f"{place}.strict must be true or false, not {shown(given['strict'])}.")
    return of_schema(given["schema"], f"{place}.schema")


def _regex(value: Mapping[str, Any]) -> str:
    _fields(value, "response_format", ("regex",))
    return of_regex(_text(value, "regex"))


def _grammar(value: Mapping[str, Any]) -> str:
    if "grammar" in value:
        _fields(value, "response_format", ("grammar",))
        return of_lark(_text(value, "grammar"))
    _fields(value, "response_format", ("syntax", "definition"))
    readers = {"lark": of_lark, "regex": of_regex}
    syntax = value["syntax"]
    if not isinstance(syntax, str) or syntax not in readers:
        raise _refused(unknown("syntax of response_format", syntax, readers))
    return readers[syntax](_text(value, "definition"))


def _structural_tag(value: Mapping[str, Any]) -> str:
    import llguidance

    _fields(value, "response_format", ("structures", "triggers"))
    structures, triggers = value["structures"], value["triggers"]
    if not isinstance(structures, list) or not structures:
        raise _refused("response_format.structures must be a list of at least one object.")
    if not isinstance(triggers, list) or not all(isinstance(t, str) and t for t in triggers):
        raise _refused("response_format.triggers must be a list of texts that are not empty.")
    tags = []
    for index, one in enumerate(structures):
        place = f"response_format.structures[{index}]"
        if not isinstance(one, Mapping):
            raise _refused(f"{place} must be an object, not {shown(one)}.")
        _fields(one, place, ("begin", "schema", "end"), typed=False)
        begin, end = _text(one, "begin", place), _text(one, "end", place)
        fitting = [trigger for trigger in triggers if begin.startswith(trigger)]
        if not fitting:
            raise _refused(f"{place}.begin starts with none of the triggers {shown(triggers)}.")
        grammar = json.loads(of_schema(one["schema"], f"{place}.schema"))
        schema = grammar["grammars"][0]["json_schema"]
        tags.append(llguidance.StructTag(trigger=fitting[0], begin=begin, grammar=schema, end=end))
    return of_lark(llguidance.StructTag.to_grammar(tags, assume_special=False))


_KINDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "json_object": _json_object,
    "json_schema": _json_schema,
    "regex": _regex,
    "grammar": _grammar,
    "structural_tag": _structural_tag,
}


def _fields(
    value: Mapping[str, Any],
    place: str,
    required: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
    *,
    typed: bool = True,
) -> None:
    """Check that an object has the fields that it must have, and no others than it may have."""
    known = (*(("type",) if typed else ()), *required, *optional)
    if extra := [key for key in value if key not in known]:
        raise _refused(f"{place}: {unknown('field', extra[0], known)}")
    if missing := [key for key in required if key not in value]:
        raise _refused(f"{place} lacks the field {missing[0]!r}.")


def _text(value: Mapping[str, Any], key: str, place: str = "response_format") -> str:
    text = value[key]
    if not isinstance(text, str):
        raise _refused(f"{place}.{key} must be a text, not {shown(text)}.")
    if len(text) > MOST_CHARACTERS:
        raise _refused(
            f"{place}.{key} has {len(text)} characters; at most {MOST_CHARACTERS} are read."
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as failure:
        raise _refused(f"{place}.{key} is not Unicode: {failure.reason}.") from None
    return text


def _refused(message: str) -> ConfigError:
    return ConfigError(message, code="response-format-invalid")
