"""Messages with more than a role and a content."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
import pytest

from mlc_llm.conversation import Conversation, Message
from mlc_llm.errors import ConfigError
from mlc_llm.plugin import ConversationTemplate
from mlc_llm.testing import raises
from mlc_llm.testing.fakes import FAKE_TEMPLATE
from mlc_llm.testing.model_folder import write_byte_tokenizer
from mlc_llm.tokenizer import load_tokenizer

CALL = {"id": "1", "function": {"name": "f", "arguments": {"x": [1, 2.5, None, True]}}}


class _Kind(str, enum.Enum):  # noqa: UP042  # whose str() is another one
    TOOL = "tool"


class _Model(pydantic.BaseModel):
    role: str
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


@dataclass
class _Data:
    role: str
    content: str
    name: str


class _Plain:
    role, content, tool_call_id = "tool", "20", "1"


def test_further_fields_are_kept() -> None:
    given = {"role": "user", "content": "Hi", "name": "tom", "none": None, "call": (CALL,)}
    assert Message.of(given) == Message("user", "Hi", more={"name": "tom", "call": [CALL]})
    assert Message.of(_Data("user", "Hi", "tom")) == Message("user", "Hi", more={"name": "tom"})
    assert Message.of(_Plain()) == Message("tool", "20", more={"tool_call_id": "1"})
    called = _Model(role="assistant", tool_calls=[CALL])
    assert Message.of(called) == Message(
        "assistant", "", more={"tool_calls": [CALL], "content": None}
    )


def test_they_are_copies_in_jsons_types() -> None:
    call = {"name": "f"}
    message = Message.of(
        {"role": "user", "content": "", "kind": _Kind.TOOL, "image": object(), "call": call}
    )
    call["name"] = "g"
    assert message.more == {"kind": "tool", "image": "<object>", "call": {"name": "f"}}
    assert type(message.more["kind"]) is str


def test_parts_are_kept_beside_their_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert Message.of({"role": "user", "content": parts}) == Message(
        "user", "ab", more={"content": parts}
    )


def test_what_is_nested_without_end() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with raises("prompt-malformed", error=ConfigError):
        Message.of({"role": "user", "content": "", "loop": loop})


@pytest.mark.parametrize(
    "message", [{"role": "assistant"}, {"role": "assistant", "tool_calls": []}]
)
def test_a_message_without_content_calls_a_tool(message: dict[str, Any]) -> None:
    with raises("prompt-malformed", error=ConfigError):
        Message.of(message)


def test_a_named_template_has_no_place_for_a_call_without_text(tmp_path: Path) -> None:
    write_byte_tokenizer(tmp_path / "tokenizer.json", 259)
    template = ConversationTemplate.from_data(FAKE_TEMPLATE, "it")
    conversation = Conversation(template, load_tokenizer(tmp_path))
    with raises("content-unsupported", "tool_calls", error=ConfigError):
        conversation.prompt([{"role": "assistant", "content": None, "tool_calls": [CALL]}])
