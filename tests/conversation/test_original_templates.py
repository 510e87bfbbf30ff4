"""The chat templates of published tokenizers: their prompts in tokens, as transformers has them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.config import ConvConfig
from mlc_llm.conversation import Conversation, JinjaTemplate, read_jinja_template
from mlc_llm.errors import TemplateError
from mlc_llm.tokenizer import Tokenizer, load_tokenizer

from .test_jinja_rendering import CONVERSATIONS, TOOLS

pytestmark = pytest.mark.slow

NAMES = ["llama3", "llama3_1", "gemma3", "qwen3", "deepseek_v3"]
VARIABLES: list[dict[str, Any]] = [{}, {"tools": TOOLS}, {"enable_thinking": False}]


def _ours(template: JinjaTemplate, tokenizer: Tokenizer, messages: Any) -> list[int] | None:
    try:
        return Conversation(template, tokenizer).prompt_ids(messages)
    except TemplateError as error:
        if error.code not in ("template-refused", "template-failed"):
            raise
        return None


def _transformers(reference: Any, messages: Any, **variables: Any) -> list[int] | None:
    given = {"add_generation_prompt": True, "return_dict": False, **variables}
    try:
        return list(reference.apply_chat_template(copy.deepcopy(messages), **given))
    except Exception:  # jinja2's errors, and Python's
        return None


@pytest.mark.parametrize("name", NAMES)
def test_prompts(name: str, original_tokenizer: Callable[[str], Path], transformers: Any) -> None:
    folder = original_tokenizer(name)
    reference = transformers.PreTrainedTokenizerFast.from_pretrained(str(folder))
    tokenizer, template = load_tokenizer(folder), read_jinja_template(folder)
    assert template is not None
    made = 0
    for conversation in sorted(CONVERSATIONS.keys() - {"parts"}):
        messages = CONVERSATIONS[conversation]
        for variables in VARIABLES:
            overlaid = template.overlaid(ConvConfig(chat_template_kwargs=variables))
            found = _ours(overlaid, tokenizer, messages)
            wanted = _transformers(reference, messages, **variables)
            assert found == wanted, (conversation, variables)
            made += found is not None
    assert made >= 9
