"""What the package ``openai`` makes of a reply: the independent reference for its form."""

from __future__ import annotations

import json
from typing import Any

from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from mlc_llm.protocol import Reply


def read_by_openai(reply: Reply) -> Any:
    """Have ``openai``'s own types read a reply's JSON: they must know all of it.

    Returns:
        The object of ``openai``'s type, whose dump is that of the reply.
    """
    data = json.loads(reply.model_dump_json())
    assert data == reply.model_dump(mode="json")
    kinds = {
        "chat.completion": ChatCompletion,
        "chat.completion.chunk": ChatCompletionChunk,
        "text_completion": Completion,
    }
    read = kinds[data["object"]].model_validate(data, strict=True)
    assert strangers(read) == []
    assert read.model_dump(mode="json", exclude_unset=True) == data
    return read


def strangers(value: Any) -> list[str]:
    """Fields that ``openai``'s types have no place for, at any depth."""
    if isinstance(value, BaseModel):
        found = [f"{type(value).__name__}.{name}" for name in value.model_extra or {}]
        return found + [s for _, item in value for s in strangers(item)]
    if isinstance(value, list):
        return [s for item in value for s in strangers(item)]
    return []
