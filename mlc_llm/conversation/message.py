"""One message of a conversation, and reading it from what users write."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlc_llm.config.numbers import MOST
from mlc_llm.errors import ConfigError
from mlc_llm.files import is_nested_deeper
from mlc_llm.shown import shown

SYSTEM = "system"
USER = "user"
ASSISTANT = "assistant"


_PLAIN: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
}
"""What makes a plain value of one whose class may have methods of its own, as enumerations have."""


@dataclass(frozen=True)
class Message:
    """One message of a conversation.

    Args:
        role: ``system``, or one of the template's roles: ``user``, ``assistant``, perhaps ``tool``.
        content: the text.
        token_ids: for a generated answer, the tokens that were generated, without those that
            ended it; they take the text's place in the prompt.
        more: what else it has, such as ``tool_calls`` or ``name``, in JSON's types: the model's own
            template may read it. The ``content`` is there once more where it is a list of
            parts, or None beside tool calls.
    """

    role: str
    content: str
    token_ids: tuple[int, ...] | None = None
    more: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, value: Any) -> Message:
        """Read a message in OpenAI's form: a mapping or an object with ``role`` and ``content``.

        The content may be a list of text parts, which are joined. A message that calls tools
        need not have one.

        Raises:
            ConfigError: the role or the content is missing or not of its form.
        """
        if isinstance(value, cls):
            return value
        fields = _fields(value)
        role, content = fields.pop("role", None), fields.pop("content", None)
        token_ids = fields.pop("token_ids", None)
        if not isinstance(role, str):
            raise ConfigError(
                "A message must have a role and a content, as in "
                f'{{"role": "user", "content": "Hello"}}, not {shown(value)}.',
                code="prompt-malformed",
            )
        more = _plain({name: item for name, item in fields.items() if item is not None}, role)
        if content is None and more.get("tool_calls"):
            return cls(role, "", _ids_of(token_ids, role), {**more, "content": None})
        text = _text_of(content, role)
        if not isinstance(content, str):
            more["content"] = _plain(content, role)
        return cls(role, text, _ids_of(token_ids, role), more)


def _text_of(content: Any, role: str) -> str:
    """A message's text: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        raise ConfigError(
            f"The content of a message ({_named(role)}) must be text, not {shown(content)}.",
            code="prompt-malformed",
        )
    texts = []
    for part in content:
        kind, text = _field(part, "type"), _field(part, "text")
        if kind != "text" or not isinstance(text, str):
            raise ConfigError(
                f"A message ({_named(role)}) has a part of type {shown(kind)}; only text parts "
                "are supported.",
                code="content-unsupported",
            )
        texts.append(text)
    return "".join(texts)


def _ids_of(token_ids: Any, role: str) -> tuple[int, ...] | None:
    if token_ids is None:
        return None
    is_list = isinstance(token_ids, list | tuple)
    if not is_list or not all(map(_is_token_id, token_ids)):
        raise ConfigError(
            f"The token_ids of a message ({_named(role)}) must be a list of integers of at "
            f"least 0, which are token ids, not {shown(token_ids)}.",
            code="prompt-malformed",
        )
    return tuple(token_ids)


def _is_token_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST


def _named(role: str) -> str:
    """A role in a message about it."""
    return role if len(role) <= 100 else shown(role)


def _field(value: Any, name: str) -> Any:
    """A mapping's value or an object's attribute; None when there is none."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _fields(value: Any) -> dict[str, Any]:
    """What a message has: a mapping, a dataclass, a model of pydantic's, or another object."""
    if (mapping := _mapping(value)) is not None:
        return {name: item for name, item in mapping.items() if isinstance(name, str)}
    names = ("role", "content", "token_ids", "tool_calls", "tool_call_id", "name")
    return {name: getattr(value, name, None) for name in names}


def _mapping(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if callable(dump := getattr(value, "model_dump", None)):
        dumped = dump()
        return dumped if isinstance(dumped, Mapping) else None
    return None


def _plain(value: Any, role: str) -> Any:
    """A copy of a value in JSON's types; what has none of them is named by its type."""
    if is_nested_deeper(value):
        raise ConfigError(
            f"A message ({_named(role)}) is nested too deeply: {shown(value)}.",
            code="prompt-malformed",
        )
    return _copied(value)


def _copied(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    for kind, plain in _PLAIN.items():
        if isinstance(value, kind):
            return plain(value)
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    if (mapping := _mapping(value)) is not None:
        return {str(name): _copied(item) for name, item in mapping.items()}
    return f"<{type(value).__name__}>"
