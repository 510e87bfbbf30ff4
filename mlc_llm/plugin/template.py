"""The conversation template: data that says how a chat is laid out as one prompt.

Field names and their meaning are those of MLC LLM's conversation protocol, as they stand in
published ``mlc-chat-config.json`` files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from mlc_llm.config import ConvConfig, template_fields, translate_older_spellings
from mlc_llm.config.explain import explain
from mlc_llm.config.numbers import TokenId
from mlc_llm.errors import TemplateError, unknown
from mlc_llm.shown import shown

DEFAULT_ROLE_TEMPLATES = {
    "user": "{user_message}",
    "assistant": "{assistant_message}",
    "tool": "{tool_message}",
}

WITHOUT_MEMORY = frozenset({"LM", "codellama_completion"})
"""MLC's templates for which its ChatModule began every call afresh. Its JSON has no field for that,
so the name says it."""

_MEANS_NOTHING = ("offset", "separator_style")
"""Fields of older templates that are accepted and not used."""


class ConversationTemplate(BaseModel):
    """How messages become a prompt.

    The prompt is the system message in ``system_template``; then every message as role,
    ``role_content_sep``, content in its role's template, separator; then the assistant's role and
    ``role_empty_sep``, after which the model writes.

    The spellings that :class:`~mlc_llm.config.ConvConfig` takes for older fields are taken here,
    too. None means that a field is not given.

    Args:
        name: the template's name.
        system_template: text with the placeholder ``{system_message}``.
        system_message: the default system message.
        system_prefix_token_ids: token ids that begin the prompt; better ``add_bos``, for numbers
            are those of one vocabulary.
        add_role_after_system_message: whether the first message's role follows a system message.
        roles: what stands for ``user``, ``assistant`` and perhaps ``tool``.
        role_templates: text around a message's content, with a placeholder such as
            ``{user_message}``.
        messages: (role, content) pairs that begin every conversation.
        seps: what follows a message; with two, the second follows the assistant's.
        role_content_sep: between a role and a message's content.
        role_empty_sep: after the assistant's role where the model is to write.
        stop_str: strings that end an answer.
        stop_token_ids: token ids that end an answer.
        function_string: what replaces ``{function_string}``.
        use_function_calling: whether the model is to call functions.
        strip_reasoning_in_history: whether ``<think>`` parts of old answers are left out.
        add_bos: whether the tokenizer's BOS, if it has one, begins the prompt, once; None leaves
            that to ``system_prefix_token_ids``.
        has_memory: whether earlier turns are part of the prompt.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = None
    system_template: str = "{system_message}"
    system_message: str = ""
    system_prefix_token_ids: list[TokenId] | None = None
    add_role_after_system_message: bool = True
    roles: dict[str, str]
    role_templates: dict[str, str] = Field(default_factory=lambda: dict(DEFAULT_ROLE_TEMPLATES))
    messages: list[tuple[str, str | None]] = []
    seps: Annotated[list[str], Field(min_length=1, max_length=2)]
    role_content_sep: str = ""
    role_empty_sep: str = ""
    stop_str: list[str] = []
    stop_token_ids: list[TokenId] = []
    function_string: str = ""
    use_function_calling: bool = False
    strip_reasoning_in_history: bool = False
    add_bos: bool | None = None
    has_memory: bool = True
    _chosen: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def chosen(self) -> frozenset[str]:
        """The fields that a ``ConvConfig`` set, which are not the template's own."""
        return self._chosen

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        data = translate_older_spellings(data)
        data = {
            name: value
            for name, value in data.items()
            if value is not None and name not in _MEANS_NOTHING
        }
        if isinstance(data.get("role_templates"), Mapping):
            data["role_templates"] = {**DEFAULT_ROLE_TEMPLATES, **data["role_templates"]}
        if isinstance(data.get("stop_str"), str):
            data["stop_str"] = [data["stop_str"]]
        name = data.get("name")
        if isinstance(name, str) and name in WITHOUT_MEMORY:
            data.setdefault("has_memory", False)
        return data

    @model_validator(mode="after")
    def _check(self) -> ConversationTemplate:
        if missing := {"user", "assistant"} - self.roles.keys():
            raise ValueError(f"roles lacks {sorted(missing)}")
        _check_roles(self.role_templates, self.roles, "role_templates")
        return self

    @classmethod
    def from_data(cls, data: Any, origin: str) -> ConversationTemplate:
        """Validate a template's data.

        Args:
            data: a mapping of the fields above.
            origin: where it comes from, for the error message.

        Raises:
            TemplateError: the data is not a valid template.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            problems = explain(error, "", template_fields())
            raise TemplateError(
                f"{origin} is not a valid conversation template: {problems}"
            ) from None

    def overlaid(self, config: ConvConfig | None) -> ConversationTemplate:
        """A copy in which the fields that ``config`` sets replace this template's.

        Of ``roles`` and ``role_templates`` only the roles that ``config`` names are replaced. The
        copy shares nothing with this template, nor with ``config``.

        Raises:
            TemplateError: the outcome is not a valid template, or ``config`` names a role that the
                template does not have.
        """
        changes = {} if config is None else config.overrides()
        if changes.pop("chat_template_kwargs", None):
            raise TemplateError(
                f"The template {shown(self.name)} has no variables that chat_template_kwargs could "
                "set. A model's own template may: name it with ChatConfig(conv_template='jinja').",
                code="template-fixed",
            )
        data = self.model_dump()
        for name in ("roles", "role_templates"):
            if name in changes:
                try:
                    _check_roles(changes[name], self.roles, name)
                except ValueError as error:
                    raise TemplateError(f"The template {shown(self.name)}: {error}") from None
                changes[name] = {**data[name], **changes[name]}
        if "system_prefix_token_ids" in changes:
            data["add_bos"] = None  # What is set takes the place of all that began the prompt.
        origin = f"the template {shown(self.name)} with the given ConvConfig"
        laid = self.from_data({**data, **changes}, origin)
        laid._chosen = self._chosen.union(changes)
        return laid


def _check_roles(given: Collection[str], roles: Collection[str], field: str) -> None:
    """Check that roles are a template's, or one that every template may have."""
    known = {*roles, *DEFAULT_ROLE_TEMPLATES}
    for role in given:
        if role not in known:
            raise ValueError(unknown(f"role in {field}", role, known))
