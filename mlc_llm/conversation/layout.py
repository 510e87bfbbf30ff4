"""Laying messages out as a template says, by the rules of MLC LLM's conversation protocol."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mlc_llm.conversation.message import ASSISTANT, USER, Message
from mlc_llm.conversation.segments import Generated, Literal, Plain, Segment
from mlc_llm.errors import ConfigError
from mlc_llm.plugin.template import SYSTEM_PLACEHOLDER, ConversationTemplate
from mlc_llm.shown import shown

_FUNCTION_PLACEHOLDER = "{function_string}"
_END_OF_REASONING = "</think>"


def layout(
    template: ConversationTemplate, system: str, turns: Sequence[Message], continues: bool = False
) -> Iterator[Segment]:
    """The whole prompt: system message, preset and given messages, the assistant's role.

    Args:
        template: how messages are laid out.
        system: the system message.
        turns: the given messages.
        continues: whether the last of them is an answer that goes on: the prompt ends with it.
    """
    begun = turns[-1] if continues else None
    turns = turns[:-1] if continues else turns
    presets = [(role, content, None) for role, content in template.messages]
    given = [(turn.role, turn.content, turn.token_ids) for turn in turns]
    messages = [*presets, *given]
    system_part = _system(template, system)
    last = _last_of_user(messages) if template.system_in_last_turn else None
    if last is None:
        yield from system_part
    omit_role = last is None and bool(system_part) and not template.add_role_after_system_message
    for index, (role, content, token_ids) in enumerate(messages):
        if content is None:
            yield Literal(template.roles[role] + template.role_empty_sep)
        else:
            message = Message(role, content, token_ids)
            yield from _turn(template, message, omit_role, system_part if index == last else ())
        omit_role = False
    if begun is None:
        yield Literal(template.roles[ASSISTANT] + template.role_empty_sep)
    else:
        yield from _begun(template, begun)


def _system(template: ConversationTemplate, message: str) -> list[Segment]:
    """The system message in its place, or nothing; functions that stand there stay."""
    if template.system_optional and not message:
        functions = _FUNCTION_PLACEHOLDER in template.system_template
        return [Literal(_FUNCTION_PLACEHOLDER)] if functions and template.function_string else []
    if not template.system_template.replace(SYSTEM_PLACEHOLDER, message):
        return []
    return list(_fill(template.system_template, SYSTEM_PLACEHOLDER, message))


def _last_of_user(messages: Sequence[tuple[str, str | None, object]]) -> int | None:
    """Where the last message of the user is; None if there is none."""
    of_user = (i for i, (role, text, _) in enumerate(messages) if role == USER and text is not None)
    return max(of_user, default=None)


def _begun(template: ConversationTemplate, message: Message) -> Iterator[Segment]:
    """An answer that goes on: nothing is left out of it, and nothing follows."""
    role = template.roles[message.role]
    if message.token_ids is not None:
        yield Literal(role + template.role_empty_sep)
        yield Generated(message.token_ids)
        return
    placeholder = f"{{{message.role}_message}}"
    before = template.role_templates.get(message.role, placeholder).partition(placeholder)[0]
    yield Literal(role + template.role_content_sep + before)
    yield Plain(message.content)


def layout_last(template: ConversationTemplate, history: Sequence[Message]) -> list[Segment]:
    """The prompt of a template without memory: the last user's message alone."""
    last = next((message for message in reversed(history) if message.role == USER), None)
    if last is None:
        raise ConfigError(
            f"The template {shown(template.name)} needs a message of the user.",
            code="prompt-malformed",
        )
    slot = Literal(template.roles[ASSISTANT] + template.role_empty_sep)
    return [*_turn(template, last, omit_role=False), slot]


def _turn(
    template: ConversationTemplate,
    message: Message,
    omit_role: bool,
    system: Iterable[Segment] = (),
) -> Iterator[Segment]:
    """One message with its role before it, perhaps the system message, and its separator."""
    role = "" if omit_role else template.roles[message.role]
    placeholder = f"{{{message.role}_message}}"
    around = template.role_templates.get(message.role, placeholder)
    if message.token_ids is not None and _stays_as_generated(template, message):
        yield Literal(role + ("" if omit_role else template.role_empty_sep))
        yield Generated(message.token_ids)
        yield Literal(around.rpartition(placeholder)[2])
    else:
        yield Literal(role + ("" if omit_role else template.role_content_sep))
        yield from system
        yield from _fill(around, placeholder, _in_history(template, message))
    yield Literal(template.seps[-1] if message.role == ASSISTANT else template.seps[0])


def _stays_as_generated(template: ConversationTemplate, message: Message) -> bool:
    """Whether an answer's tokens may stand in the prompt: they hold no reasoning to leave out."""
    if not template.strip_reasoning_in_history:
        return True
    same_start = template.role_empty_sep == template.role_content_sep
    return same_start and _END_OF_REASONING not in message.content


def _in_history(template: ConversationTemplate, message: Message) -> str:
    """A message's text, for an answer perhaps without the reasoning that precedes it."""
    if message.role != ASSISTANT or not template.strip_reasoning_in_history:
        return message.content
    _before, found, after = message.content.rpartition(_END_OF_REASONING)
    return after.lstrip("\n") if found else message.content


def _fill(template: str, placeholder: str, text: str) -> Iterator[Segment]:
    """A template's text with a message in the place of the placeholder."""
    first, *others = template.split(placeholder)
    yield Literal(first)
    for literal in others:
        yield Plain(text)
        yield Literal(literal)


def fill_functions(segments: Iterable[Segment], function_string: str) -> list[Segment]:
    """Put the functions where the template last asks for them, and nothing elsewhere."""
    filled: list[Segment] = []
    last = None
    for segment in segments:
        if not isinstance(segment, Literal):
            filled.append(segment)
            continue
        first, *others = segment.text.split(_FUNCTION_PLACEHOLDER)
        filled.append(Literal(first))
        for literal in others:
            last = len(filled)
            filled += [Plain(""), Literal(literal)]
    if last is not None:
        filled[last] = Plain(function_string)
    return filled
