"""What llguidance enforces of JSON Schema; all else is refused, because it would be ignored.

llguidance ignores keywords that it does not know, as the standard has it; of others it says that it
lacks them, but not where they stand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from mlc_llm.errors import ConfigError, unknown

Schema = dict[str, Any]

ENFORCED = frozenset(
    """
    $ref type enum const anyOf oneOf allOf
    properties patternProperties additionalProperties required minProperties maxProperties
    items prefixItems additionalItems minItems maxItems
    minLength maxLength pattern format
    minimum maximum exclusiveMinimum exclusiveMaximum multipleOf
    """.split()
)
"""The keywords that restrict an answer and that are enforced."""

ANNOTATIONS = frozenset(
    """
    $schema $id id $anchor $comment $vocabulary $defs definitions
    title description default example examples deprecated readOnly writeOnly
    contentEncoding contentMediaType contentSchema discriminator externalDocs xml
    """.split()
)
"""The keywords that say something of a schema, or name it, and restrict nothing; the last three are
OpenAPI's. Others may begin with ``x-``, as is usual."""

UNSUPPORTED = frozenset(
    """
    not if then else contains minContains maxContains uniqueItems propertyNames
    dependentRequired dependentSchemas dependencies unevaluatedItems unevaluatedProperties
    $dynamicRef $dynamicAnchor $recursiveRef $recursiveAnchor
    """.split()
)
"""The keywords of the standard that cannot be enforced."""

MOST_SCHEMAS = 5_000
"""Schemas within a schema; see :data:`mlc_llm.grammar.matcher.STACK_BYTES`."""

_MOST_READ = 20_000_000
"""Characters of schemas that are read to find the place of an error: about a second."""

_OF_NAMES = ("properties", "patternProperties", "$defs", "definitions")
_OF_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_OF_ONE = ("items", "additionalItems", "additionalProperties")


def subschemas(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """A schema and all those within it, each after the one that it stands in.

    Yields:
        Where it stands, as a JSON pointer such as ``#/properties/age``, and the schema.
    """
    left: list[tuple[str, Any]] = [("#", schema)]
    while left:
        place, inner = left.pop()
        if not isinstance(inner, dict):
            continue
        yield place, inner
        for key in _OF_NAMES:
            if isinstance(named := inner.get(key), dict):
                left += [(f"{place}/{key}/{_escaped(name)}", one) for name, one in named.items()]
        for key in _OF_LISTS:
            if isinstance(listed := inner.get(key), list):
                left += [(f"{place}/{key}/{index}", one) for index, one in enumerate(listed)]
        left += [(f"{place}/{key}", inner[key]) for key in _OF_ONE if key in inner]


def check_keywords(schema: Schema) -> None:
    """Refuse keywords that would be ignored.

    Raises:
        ConfigError: a keyword cannot be enforced, or is none; or there are too many schemas.
    """
    for count, (place, inner) in enumerate(subschemas(schema)):
        if count == MOST_SCHEMAS:
            raise _refused(f"The schema has more than {MOST_SCHEMAS} schemas within it.")
        for key in inner:
            if key in UNSUPPORTED:
                raise _refused(
                    f"The schema's keyword {key!r} at {place} cannot be enforced: an answer might "
                    "break it. Leave it out, and check the answer for it."
                )
            if key not in ENFORCED | ANNOTATIONS and (
                not key.startswith("x-") or key == "x-guidance"
            ):
                listed = unknown("keyword", key, ENFORCED | ANNOTATIONS)
                raise _refused(
                    f"The schema has a word at {place} that JSON Schema does not know, so that it "
                    f"would not be enforced. {listed} What begins with 'x-' is left alone."
                )


def place_of(message: str, schema: Schema, message_of: Callable[[Schema], str]) -> str:
    """Where a schema has an error.

    Args:
        message: what llguidance says of the whole schema.
        schema: the whole schema.
        message_of: what llguidance says of a schema.

    Returns:
        The place of the innermost schema for which it says the same; the whole schema's, ``#``,
        where it is too large to look for that.
    """
    named = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    places = [(place, {**named, **inner}) for place, inner in subschemas(schema)]
    if len(places) * len(json.dumps(schema)) > _MOST_READ:
        return "#"
    for place, alone in reversed(places):
        if message_of(alone) == message:
            return place
    return "#"


def _escaped(name: str) -> str:
    """A name as a JSON pointer has it (RFC 6901)."""
    return str(name).replace("~", "~0").replace("/", "~1")


def _refused(message: str) -> ConfigError:
    return ConfigError(message, code="response-format-invalid")
