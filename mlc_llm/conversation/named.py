"""The format of a named template, which is data: MLC LLM's conversation protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlc_llm.conversation.layout import fill_functions, has_place_for_system, layout, layout_last
from mlc_llm.conversation.message import SYSTEM, Message
from mlc_llm.conversation.prompt_format import PromptFormat
from mlc_llm.conversation.segments import Segment
from mlc_llm.errors import ConfigError, TemplateError, unknown
from mlc_llm.plugin.template import ConversationTemplate
from mlc_llm.tokenizer import Tokenizer
from mlc_llm.tokenizer.template_ids import marks, prefix_ids, stop_ids


class NamedFormat(PromptFormat):
    """Lays messages out as a named template says.

    Args:
        template: the template.
        tokenizer: the model's tokenizer.

    Raises:
        TemplateError: the template asks for tokens that the tokenizer does not have, or begins
            with a message of a role that it does not have.
    """

    def __init__(self, template: ConversationTemplate, tokenizer: Tokenizer) -> None:
        self._template = template
        self.marks = tuple(marks(template, tokenizer))
        self.prefix = tuple(prefix_ids(template, tokenizer))
        self.stop_strings = tuple(stop for stop in template.stop_str if stop)
        self.stop_ids = frozenset(stop_ids(template, tokenizer))
        for role, _ in template.messages:
            if role not in template.roles:
                raise TemplateError(unknown("role", role, template.roles), code="role-unknown")

    def check(self, messages: Sequence[Message]) -> None:
        """See :class:`PromptFormat`; all roles are known, and every message has a content."""
        roles = {SYSTEM, *self._template.roles}
        for message in messages:
            if message.role not in roles:
                raise TemplateError(unknown("role", message.role, roles), code="role-unknown")
            if message.more.get("content", "") is None:
                raise ConfigError(
                    f"A message ({message.role}) has no content but tool_calls, for which the "
                    f"template {self._template.name!r} has no place.",
                    code="content-unsupported",
                )

    def segments(self, history: Sequence[Message], continues: bool) -> list[Segment]:
        """See :class:`PromptFormat`."""
        template = self._template
        if not history and not template.messages:
            raise ConfigError(
                "There is no message to answer: give at least one.", code="prompt-empty"
            )
        if template.has_memory:
            turns = [message for message in history if message.role != SYSTEM]
            parts = list(layout(template, self._system_of(history), turns, continues))
        else:
            parts = layout_last(template, history)
        return fill_functions(parts, template.function_string)

    def system_message(self, history: Sequence[Message]) -> str | None:
        """See :class:`PromptFormat`; several system messages are one."""
        return self._system_of(history) if has_place_for_system(self._template) else None

    def complete(self, history: Sequence[Message]) -> tuple[Message, ...]:
        """See :class:`PromptFormat`."""
        turns = tuple(message for message in history if message.role != SYSTEM)
        system = self.system_message(history)
        return turns if system is None else (Message(SYSTEM, system), *turns)

    def _system_of(self, history: Iterable[Message]) -> str:
        """The history's system messages, or else the template's."""
        given = [message.content for message in history if message.role == SYSTEM]
        return "\n\n".join(given) if given else self._template.system_message
