"""A chat template in Jinja, compiled, and what it makes of messages."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from jinja2.exceptions import TemplateSyntaxError

from mlc_llm.conversation.jinja.budget import Budget
from mlc_llm.conversation.jinja.environment import ChatEnvironment
from mlc_llm.conversation.jinja.origin import Text, joined
from mlc_llm.errors import MLCError, TemplateError
from mlc_llm.files import MOST_NESTED, is_nested_deeper
from mlc_llm.shown import shown

MOST_CHARACTERS = 2**16
"""Characters that a template may have; the longest of published models have a quarter of it."""


class ChatRenderer:
    """A compiled template. It may be used from several threads; they wait for each other.

    Args:
        source: the template's text.
        origin: where it comes from, for error messages.

    Raises:
        TemplateError: it is not a template, or too long.
    """

    def __init__(self, source: str, origin: str) -> None:
        self._origin = origin
        self._environment = ChatEnvironment()
        self._lock = threading.Lock()
        if len(source) > MOST_CHARACTERS:
            raise self._unreadable(f"has {len(source)} characters; {MOST_CHARACTERS} are allowed")
        try:
            self._template = self._environment.template(source)
        except TemplateSyntaxError as error:
            raise self._unreadable(f"has an error in line {error.lineno}: {error}") from None
        except (Exception, RecursionError) as error:
            # Whatever jinja2 or Python raise for what is nested too deeply or makes no sense.
            raise self._unreadable(f"cannot be read: {shown(error)}") from None

    @property
    def texts(self) -> tuple[str, ...]:
        """The template's own texts: all that it writes of itself is made of them."""
        return tuple(self._environment.constants)

    def render(self, variables: Mapping[str, Any]) -> Text:
        """The text that the template makes.

        Args:
            variables: what it may use: ``messages``, ``add_generation_prompt`` and so on; of
                JSON's types. Plain strings in them count as given.

        Raises:
            TemplateError: the template refuses the messages, fails, or would take too long.
        """
        if is_nested_deeper(variables):
            raise TemplateError(
                f"A message, a tool or a variable is nested in more than {MOST_NESTED} levels.",
                code="template-failed",
            )
        with self._lock:
            self._environment.budget = budget = Budget(variables)
            try:
                prompt = joined([self._template.render(variables)])
                budget.finish(prompt)
                return prompt
            except MLCError:
                raise
            except (Exception, RecursionError) as error:
                reason = str(error) if len(str(error)) <= 500 else shown(str(error))
                raise TemplateError(
                    f"{self._origin} fails with these messages: {type(error).__name__}: {reason}. "
                    "It may not be made for messages of these roles or in this order; another "
                    "template can be named with ChatConfig(conv_template=...).",
                    code="template-failed",
                ) from None
            finally:
                self._environment.budget = Budget({})

    def _unreadable(self, what: str) -> TemplateError:
        return TemplateError(
            f"{self._origin} {what}. Fetch the file again, or name another template with "
            "ChatConfig(conv_template=...).",
            code="template-unreadable",
        )
