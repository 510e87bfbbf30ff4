"""One message of a conversation, and reading it from what users write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlc_llm.config.numbers import MOST
from mlc_llm.errors import ConfigError
from mlc_llm.shown import shown

SYSTEM = "system"
USER = "user"
ASSISTANT = "assistant"


@dataclass(frozen=True)
class Message:
    """One message of a conversation.

    Args:
        role: ``system``, or one of the template's roles: ``user``, ``assistant``, perhaps ``tool``.
        content: the text.
        token_ids: for a generated answer, the tokens that were generated, without those that
            ended it; they take the text's place in the prompt.
    """

    role: str
    content: str
    token_ids: tuple[int, ...] | None = None

    @classmethod
    def of(cls, value: Any) -> Message:
        """Read a message in OpenAI's form: a mapping or an object with ``role`` and ``content``.

        The content may be a list of text parts, which are joined.

        Raises:
            ConfigError: the role or the content is missing or not of its form.
        """
        if isinstance(value, cls):
            return value
        role, content = _field(value, "role"), _field(value, "content")
        token_ids = _field(value, "token_ids")
        if not isinstance(role, str):
            raise ConfigError(
                "A message must have a role and a content, as in "
                f'{{"role": "user", "content": "Hello"}}, not {shown(value)}.',
                code="prompt-malformed",
            )
        return cls(role, _text_of(content, role), _ids_of(token_ids, role))


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
