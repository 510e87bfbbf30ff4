"""The format of a model's own template: what it writes, in parts that are encoded by their origin.

Every text that a template is given counts as given, and what it writes itself as its own; only
there control tokens are recognised. The contents of answers whose tokens are known are followed by
number, and where one stands in the prompt in one piece its tokens take its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from mlc_llm.conversation.jinja.known_tokens import spelled_part, takes_space
from mlc_llm.conversation.jinja.origin import (
    GIVEN,
    TEMPLATE,
    Run,
    Text,
    joined,
    parts_of,
    runs_of,
    text_of,
)
from mlc_llm.conversation.jinja.rendering import ChatRenderer
from mlc_llm.conversation.message import SYSTEM, USER, Message
from mlc_llm.conversation.prompt_format import PromptFormat
from mlc_llm.conversation.segments import Generated, Literal, Plain, Segment
from mlc_llm.errors import ConfigError, TemplateError
from mlc_llm.tokenizer import Tokenizer
from mlc_llm.tokenizer.chat_template import JinjaTemplate
from mlc_llm.tokenizer.template_ids import marks_in

_ROLES = frozenset("assistant developer function ipython model system tool user".split())
"""Roles that a template may make control tokens of, as Phi's does: ``'<|' + role + '|>'``."""
_REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names of an answer's reasoning. As in transformers the first two are set by any of them."""
_GOES_ON = "THE-ANSWER-GOES-ON-HERE "
"""What is put after an answer that goes on, to find where it ends in the prompt."""
_TOKEN_NAMES = ("bos_token", "eos_token")


class JinjaFormat(PromptFormat):
    """Has a model's own template lay messages out.

    Args:
        template: the template.
        tokenizer: the model's tokenizer.

    Raises:
        TemplateError: the template cannot be read, or has no place for the system message that
            was set.
    """

    def __init__(self, template: JinjaTemplate, tokenizer: Tokenizer) -> None:
        self._template, self._tokenizer = template, tokenizer
        source = template.tool_use if template.variables.get("tools") else None
        self._renderer = ChatRenderer(source or template.source, template.origin)
        self.marks = tuple(marks_in(self._renderer.texts, tokenizer))
        self.prefix = ()
        self.stop_strings = tuple(stop for stop in template.stop_str if stop)
        self.stop_ids = frozenset(template.stop_token_ids)
        if template.system_message and not self._has_place_for_system:
            raise TemplateError(
                f"The model's chat template ({template.origin}) has no place for a system message. "
                "Leave ConvConfig(system_message=...) out, or name another template.",
                code="template-without-system",
            )

    def check(self, messages: Sequence[Message]) -> None:
        """See :class:`PromptFormat`; which roles there are is known to the template alone."""

    def segments(self, history: Sequence[Message], continues: bool) -> list[Segment]:
        """See :class:`PromptFormat`."""
        messages = self._all(history)
        if not messages:
            raise ConfigError(
                "There is no message to answer: give at least one.", code="prompt-empty"
            )
        text = self._rendered(messages, continues)
        if continues:
            text = _up_to_the_answer(text, len(messages) + 1)
        return self._parts(text, messages, continues)

    def system_message(self, history: Sequence[Message]) -> str | None:
        """See :class:`PromptFormat`; empty where the template is left to its own."""
        if not self._has_place_for_system:
            return None
        given = [message.content for message in self._all(history) if message.role == SYSTEM]
        return "\n\n".join(given)

    def complete(self, history: Sequence[Message]) -> tuple[Message, ...]:
        """See :class:`PromptFormat`."""
        return (*self._system(history), *history)

    @cached_property
    def _has_place_for_system(self) -> bool:
        """Whether the text of a system message shows in a prompt."""
        sample = [Message(SYSTEM, "Be brief.", token_ids=()), Message(USER, "Hello")]
        try:
            runs = runs_of(self._rendered(sample, continues=False))
        except TemplateError:
            return False
        return any(run.origin == 1 for run in runs)

    @cached_property
    def _knows_parts(self) -> bool:
        """Whether the template takes a content in parts, and does not write the list itself."""
        part = {"type": "text", "text": Text.of("Hello", 1)}
        message = {"role": Text.of(USER, TEMPLATE), "content": [part]}
        try:
            text = self._renderer.render({**self._variables(), "messages": [message]})
        except TemplateError:
            return False
        return any(run.origin == 1 for run in runs_of(text))

    def _all(self, history: Sequence[Message]) -> tuple[Message, ...]:
        """All messages of a prompt."""
        presets = tuple(Message(role, content) for role, content in self._template.messages)
        return (*self._system(history), *presets, *history)

    def _system(self, history: Sequence[Message]) -> tuple[Message, ...]:
        """The system message that was set, where the history has none."""
        text = self._template.system_message
        if text is None or any(message.role == SYSTEM for message in history):
            return ()
        if not text and not self._has_place_for_system:
            return ()
        return (Message(SYSTEM, text),)

    def _rendered(self, messages: Sequence[Message], continues: bool) -> Text:
        """What the template writes, up to where the assistant writes."""
        data = [_data(message, number) for number, message in enumerate(messages, 1)]
        for item, message in zip(data, messages, strict=True):
            if isinstance(item.get("content"), list) and not self._knows_parts:
                item["content"] = Text.of(message.content, GIVEN)
        if continues:
            _mark_end(data[-1], len(messages) + 1)
        variables = {**self._variables(), "add_generation_prompt": not continues}
        return self._renderer.render({**variables, "messages": data})

    def _variables(self) -> dict[str, Any]:
        """What a template may use besides the messages."""
        given = {"tools": None, "documents": None, **_given(self._template.variables)}
        return {"add_generation_prompt": True, **self._tokens(), **given}

    def _tokens(self) -> dict[str, str]:
        """The special tokens by the names that templates have for them."""
        names = {token_id: text for text, token_id in self._tokenizer.special_ids.items()}
        ids = (self._tokenizer.bos_id, self._tokenizer.eos_id)
        known = {
            name: names[token_id]
            for name, token_id in zip(_TOKEN_NAMES, ids, strict=True)
            if token_id is not None and token_id in names
        }
        tokens = {**known, **self._template.special_tokens}
        return {name: Text.of(text, TEMPLATE) for name, text in tokens.items()}

    def _parts(self, text: Text, messages: Sequence[Message], continues: bool) -> list[Segment]:
        """The prompt in parts, each of one origin."""
        origins = Counter(run.origin for run in runs_of(text))
        parts: list[Segment] = []
        for run, piece in parts_of(text):
            if run.origin > TEMPLATE and origins[run.origin] == 1:
                goes_on = continues and run.origin == len(messages)
                parts += self._answer(messages[run.origin - 1], run, piece, goes_on, parts)
            else:
                parts.append(Literal(piece) if run.origin == TEMPLATE else Plain(piece))
        return parts

    def _answer(
        self, message: Message, run: Run, piece: str, goes_on: bool, before: list[Segment]
    ) -> list[Segment]:
        """An answer, or what the template shows of it: in its own tokens, where that can be.

        White space that the template writes in the place of some that it trimmed, or that the first
        token holds, is taken away from what stands before.
        """
        start, stop = run.start, run.start + run.length
        if goes_on:
            stop = len(message.content)  # nothing is trimmed from what goes on
        written = before[-1].text if before and isinstance(before[-1], Literal) else ""
        held = message.content[:start]
        if start and held.isspace() and written.endswith(held):
            start = 0
        ids = spelled_part(self._tokenizer, message, start, stop)
        if ids is None:
            return [Plain(piece)]
        if run.start == 0 and written.endswith(" ") and takes_space(self._tokenizer, ids):
            held = " "
        if held and start == 0:
            before[-1] = Literal(written.removesuffix(held))
        return [Generated(ids)]


def _data(message: Message, number: int) -> dict[str, Any]:
    """A message as templates see it; its content is followed if its tokens are known."""
    role = Text.of(message.role, TEMPLATE if message.role in _ROLES else GIVEN)
    origin = GIVEN if message.token_ids is None else number
    data = {"role": role, "content": Text.of(message.content, origin), **_given(message.more)}
    data = {name: value for name, value in data.items() if value is not None}
    reasoning = next((data[name] for name in _REASONING if name in data), None)
    if reasoning is not None:
        data = {"thinking": reasoning, **data, "reasoning_content": reasoning}
    return data


def _mark_end(answer: dict[str, Any], origin: int) -> None:
    """Put a mark of an origin of its own after an answer that goes on."""
    place, name = answer, "content"
    if isinstance(parts := answer.get("content"), list):
        parts = answer["content"] = parts or [{"type": "text"}]
        place, name = parts[-1], "text"  # Message.of reads no other parts than texts
    place[name] = joined([place.get(name, ""), Text.of(_GOES_ON, origin)])


def _given(value: Any) -> Any:
    """A value in which all texts are known as given ones."""
    if isinstance(value, str):
        return Text.of(value, GIVEN)
    if isinstance(value, Mapping):
        return {_given(name): _given(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_given(item) for item in value]
    return value


def _up_to_the_answer(text: Text, end: int) -> Text:
    """A prompt up to the end of the answer that goes on, where the template writes it last.

    Where the template trims answers, the white space that ends this one is left out.

    Raises:
        TemplateError: the template left the answer out, or writes it in another form, too.
    """
    parts = list(parts_of(text))
    ends = [index for index, (run, _) in enumerate(parts) if run.origin == end and run.start == 0]
    if not ends:
        raise TemplateError(
            "The model's chat template leaves out the answer that should go on, so that "
            "continue_final_message cannot be used with it.",
            code="template-refused",
        )
    kept = text_of((run, part) for run, part in parts[: ends[-1]] if run.origin != end)
    if _GOES_ON.strip().casefold() in kept.casefold():
        raise TemplateError(
            "The model's chat template writes the answer that should go on in another form, so "
            "that continue_final_message cannot be used with it.",
            code="template-refused",
        )
    return kept if parts[ends[-1]][1] == _GOES_ON else joined([kept.rstrip()])
