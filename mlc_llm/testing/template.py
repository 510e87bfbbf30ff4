"""Conformance tests for a conversation template."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pytest

from mlc_llm.conversation import Conversation
from mlc_llm.plugin import ConversationTemplate
from mlc_llm.tokenizer import Tokenizer
from mlc_llm.tokenizer.detokenizer import ByteDetokenizer, Detokenizer

PLACEHOLDER = re.compile(r"\{\w+_message\}|\{function_string\}|\{system\}|\{user\}")
"""What a prompt holds when a placeholder was not filled, or is misspelt."""

FIRST = "What is 2 + 2?"
SECOND = "And\nthree\ttimes  that \N{SNOWMAN}?"
ANSWER = "It is 4, I think."
ORDERS = "Answer like a pirate."

Turn = tuple[str, str]
"""A role and a text."""


class TemplateConformance:
    """Tests of a conversation template. Subclass it and set :attr:`template`."""

    template: Mapping[str, Any] | ConversationTemplate
    """The template, as its entry point gives it."""

    @pytest.fixture
    def conversation_template(self) -> ConversationTemplate:
        """The template, validated."""
        if isinstance(self.template, ConversationTemplate):
            return self.template
        return ConversationTemplate.from_data(dict(self.template), "the template")

    @pytest.fixture
    def chat_template(self, conversation_template: ConversationTemplate) -> ConversationTemplate:
        """The template; the test is skipped for one whose prompts are the last message alone."""
        if not conversation_template.has_memory:
            pytest.skip("the template has no memory: a prompt is the user's last message")
        return conversation_template

    def test_round_trips_through_json(self, conversation_template: ConversationTemplate) -> None:
        """A model folder holds the template as JSON."""
        text = conversation_template.model_dump_json()
        again = ConversationTemplate.from_data(json.loads(text), "the template as JSON")
        assert again == conversation_template, "reading the template's JSON gives another template"
        if isinstance(self.template, Mapping):
            data = json.loads(json.dumps(dict(self.template)))
            assert ConversationTemplate.from_data(data, "the JSON") == conversation_template, (
                "the mapping holds what JSON does not keep"
            )

    def test_one_turn(self, conversation_template: ConversationTemplate) -> None:
        """The user's text is there once, whatever is in it, before the assistant's turn."""
        for text in (FIRST, SECOND, "{user_message} {system_message} {0} %s", "<s>[INST]</s>"):
            _check_order(conversation_template, [("user", text)], [text])

    def test_several_turns(self, chat_template: ConversationTemplate) -> None:
        """Every message is there once, in its order."""
        turns = [("user", FIRST), ("assistant", ANSWER), ("user", SECOND)]
        _check_order(chat_template, turns, [FIRST, ANSWER, SECOND])
        _check_order(chat_template, [*turns, ("assistant", "Yes."), ("user", "Thanks!")])

    def test_only_the_last_message_without_memory(
        self, conversation_template: ConversationTemplate
    ) -> None:
        """A template without memory leaves earlier turns out."""
        if conversation_template.has_memory:
            pytest.skip("the template has memory")
        turns = [("user", FIRST), ("assistant", ANSWER), ("user", SECOND)]
        prompt = _render(conversation_template, turns)
        assert FIRST not in prompt, "an earlier message is in the prompt"
        assert ANSWER not in prompt, "an earlier answer is in the prompt"
        _check_order(conversation_template, turns, [SECOND])

    def test_system_message(self, chat_template: ConversationTemplate) -> None:
        """A given system message replaces the default one and stands before the user's text."""
        turns = [("system", ORDERS), ("user", FIRST)]
        default = chat_template.system_message
        if "{system_message}" not in chat_template.system_template:
            assert not default, "system_template has no place for the template's system_message"
            _check_order(chat_template, turns, [FIRST])
            return
        _check_order(chat_template, turns, [ORDERS, FIRST])
        if default:
            assert default in _render(chat_template, [("user", FIRST)]), (
                "the default system message is not in the prompt"
            )
            assert default not in _render(chat_template, turns), (
                "the default system message stands beside the one that was given"
            )

    def test_without_a_system_message(self, chat_template: ConversationTemplate) -> None:
        """An empty system message leaves a prompt with the user's text."""
        _check_order(chat_template, [("system", ""), ("user", FIRST)], [FIRST])

    def test_preset_messages(self, chat_template: ConversationTemplate) -> None:
        """Messages that begin every conversation stand before the user's."""
        own = [(role, text) for role, text in chat_template.messages if text]
        _check_order(chat_template, [("user", FIRST)], [*(text for _, text in own), FIRST])
        presets = [("user", "Are you there?"), ("assistant", "I am.")]
        template = chat_template.model_copy(update={"messages": presets})
        _check_order(template, [("user", FIRST)], [*(text for _, text in presets), FIRST])

    def test_tool_messages(self, chat_template: ConversationTemplate) -> None:
        """What a tool says is there, where the template has such a role."""
        if "tool" not in chat_template.roles:
            pytest.skip("the template has no role for tools")
        turns = [("user", FIRST), ("assistant", "add(2, 2)"), ("tool", '{"sum": 4}')]
        _check_order(chat_template, turns)

    def test_no_placeholder_is_left(self, conversation_template: ConversationTemplate) -> None:
        """Every placeholder of the template is one that is filled."""
        roles = ["user"]
        if conversation_template.has_memory:
            roles = ["system", *sorted(conversation_template.roles), "user"]
        prompt = _render(conversation_template, [(role, "text") for role in roles])
        left = PLACEHOLDER.findall(prompt)
        assert not left, f"the prompt holds {left}, which nothing fills: {prompt!r}"

    def test_who_speaks_can_be_told(self, chat_template: ConversationTemplate) -> None:
        """A user's turn and an assistant's do not look the same."""
        around = [_around(chat_template, role) for role in ("user", "assistant")]
        assert around[0] != around[1], (
            f"the user's and the assistant's messages both stand in {around[0]}"
        )

    def test_answers_end(self, conversation_template: ConversationTemplate) -> None:
        """Something ends an answer; an empty stop string would end every one at once.

        What the tokenizer calls the end of a text is enough for a template without memory.
        """
        strings, ids = conversation_template.stop_str, conversation_template.stop_token_ids
        marked = strings or ids or not conversation_template.has_memory
        assert marked, "there is neither a stop string nor a stop token"
        assert all(strings), "a stop string is empty"
        assert all(token >= 0 for token in ids), f"a stop token is negative: {ids}"


class CharacterTokenizer(Tokenizer):
    """Every character is a token; no template's token ids collide with those of characters."""

    BASE = 1 << 24

    vocab_size = BASE + 0x110000
    bos_id = 1
    eos_id = 2
    unk_id = None
    special_ids: Mapping[str, int] = MappingProxyType({})
    prefix_after_special = False

    def _encode(self, text: str, continues: bool) -> list[int]:
        return [self.BASE + ord(character) for character in text]

    def stream(self, *, continues: bool = False) -> Detokenizer:
        """See :class:`mlc_llm.tokenizer.Tokenizer`."""
        return ByteDetokenizer(self._piece, self._piece)

    def _piece(self, token_id: int) -> bytes | None:
        return chr(token_id - self.BASE).encode() if token_id >= self.BASE else None


def _render(template: ConversationTemplate, turns: Sequence[Turn]) -> str:
    """The prompt's text, without the token ids that begin it."""
    tokenizer = CharacterTokenizer()
    messages = [{"role": role, "content": text} for role, text in turns]
    return tokenizer.decode(Conversation(template, tokenizer).prompt_ids(messages))


def _check_order(
    template: ConversationTemplate, turns: Sequence[Turn], texts: Sequence[str] | None = None
) -> None:
    """The texts (by default those of all turns) are there once, in order, then the answer."""
    prompt = _render(template, turns)
    slot = template.roles["assistant"] + template.role_empty_sep
    assert prompt.endswith(slot), f"the prompt does not end with {slot!r}: {prompt!r}"
    end = 0
    for text in texts if texts is not None else [text for _, text in turns]:
        count = prompt.count(text)
        assert count == 1, f"{text!r} is {count} times in the prompt: {prompt!r}"
        place = prompt.index(text)
        assert place >= end, f"{text!r} stands too early in the prompt: {prompt!r}"
        end = place + len(text)
    assert end <= len(prompt) - len(slot), f"the answer's place is not at the end: {prompt!r}"


def _around(template: ConversationTemplate, role: str) -> tuple[str, ...]:
    around = template.role_templates[role].replace(f"{{{role}_message}}", "{}")
    separator = template.seps[-1] if role == "assistant" else template.seps[0]
    return (template.roles[role], around, separator)
