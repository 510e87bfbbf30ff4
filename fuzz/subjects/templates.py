"""Conversation templates as data, what is laid over them, and the prompts that they make."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from fuzz.mutation.json_text import json_bytes
from fuzz.subject import Case, Subject
from fuzz.subjects.small_model import checkpoint
from mlc_llm.config import ConvConfig
from mlc_llm.conversation import Conversation
from mlc_llm.errors import TemplateError
from mlc_llm.files import read_json_object
from mlc_llm.plugin import ConversationTemplate
from mlc_llm.registry.registry import default_registry
from mlc_llm.tokenizer import Tokenizer, load_tokenizer
from mlc_llm.tokenizer.template_ids import fitted, warn_of_misfits

_MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello <s>"},
    {"role": "assistant", "content": "<think>so</think>\nYes.", "token_ids": [92, 104]},
    {"role": "user", "content": "And now? {user_message}"},
]


class Templates(Subject):
    """A template is read, overlaid, fitted to a tokenizer, and makes a prompt."""

    name = "template"
    share = 1.5

    def seeds(self) -> list[Case]:
        registry = default_registry()
        names = ("llama-2", "LM", "mistral_default", "chatml")
        given = [name for name in names if name in registry.names("conversation template")]
        templates = [registry.template(name).model_dump(mode="json") for name in given]
        overlay: dict[str, Any] = {
            "system_message": "Be kind.",
            "roles": {"user": "You"},
            "stop_str": "!",
            "seps": ["; "],
            "messages": [["user", "1+1?"], ["assistant", "2"]],
        }
        return [
            {"template.json": json_bytes(data), "conv_config.json": json_bytes(changes)}
            for data in (*templates, {"roles": {"user": "U", "assistant": "A"}, "seps": ["\n"]})
            for changes in (overlay, {})
        ]

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return load_tokenizer(checkpoint())

    def feed(self, folder: Path) -> None:
        data = read_json_object(folder / "template.json", TemplateError)
        changes = read_json_object(folder / "conv_config.json", TemplateError)
        template = ConversationTemplate.from_data(data, "the template")
        template = template.overlaid(ConvConfig(**changes))
        json.dumps(fitted(template, self._tokenizer).model_dump(mode="json"))
        warn_of_misfits(template, self._tokenizer)
        conversation = Conversation(template, self._tokenizer)
        ids = conversation.prompt_ids(_MESSAGES)
        assert all(0 <= token < self._tokenizer.vocab_size for token in ids)
        conversation.prompt_text(_MESSAGES)
        assert None not in (conversation.stop_ids, conversation.stop_strings)
