"""The chat template that a model folder has, with what users set for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlc_llm.config import ConvConfig
from mlc_llm.errors import ConfigError, TemplateError
from mlc_llm.files import (
    MOST_NESTED,
    is_file,
    is_nested_deeper,
    read_file,
    read_json_object,
)
from mlc_llm.shown import shown

NAME = "jinja"
"""What ``conv_template`` says for the model's own template where the file names another one."""
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
"""Files of a template alone: its text, and an older form of it."""
_TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json")

_SETTABLE = frozenset(
    {"system_message", "messages", "stop_str", "stop_token_ids", "chat_template_kwargs"}
)
_WITHOUT_MEANING = frozenset({"name", "offset", "separator_style"})
_SET_BY_US = frozenset({"messages", "add_generation_prompt"})


@dataclass(frozen=True)
class JinjaTemplate:
    """A chat template in Jinja.

    Args:
        source: its text.
        origin: the file that it comes from, for messages.
        tool_use: another text for prompts with tools, where the model has one.
        special_tokens: the texts of tokens that it names, such as ``bos_token``.
        system_message: the first message where a conversation has no system message of its own;
            None leaves that to the template.
        messages: (role, content) pairs that begin every conversation.
        stop_str: strings that end an answer.
        stop_token_ids: token ids that end an answer.
        variables: further variables, such as ``tools``, ``documents``, ``enable_thinking``.
    """

    source: str
    origin: str
    tool_use: str | None = None
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    system_message: str | None = None
    messages: tuple[tuple[str, str], ...] = ()
    stop_str: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)

    name = NAME
    has_memory = True

    def overlaid(self, config: ConvConfig | None) -> JinjaTemplate:
        """A copy with what ``config`` sets.

        Raises:
            TemplateError: it sets what the template itself lays down, such as ``roles``, or
                variables that are not the user's.
            ConfigError: a variable is nested too deeply.
        """
        changes = {} if config is None else config.overrides()
        if fixed := sorted(changes.keys() - _SETTABLE - _WITHOUT_MEANING):
            raise TemplateError(
                f"ConvConfig sets {', '.join(fixed)}, but the model's own chat template "
                f"({self.origin}) says how messages are laid out. Leave it out, or name a "
                "template whose fields can be set with ChatConfig(conv_template=...).",
                code="template-fixed",
            )
        variables = changes.get("chat_template_kwargs", {})
        if taken := sorted(_SET_BY_US.intersection(variables)):
            raise TemplateError(
                f"chat_template_kwargs cannot have {', '.join(taken)}: every prompt sets it.",
                code="template-fixed",
            )
        if is_nested_deeper(variables):
            raise ConfigError(
                f"chat_template_kwargs is nested in more than {MOST_NESTED} levels: "
                f"{shown(variables)}."
            )
        return replace(
            self,
            system_message=changes.get("system_message", self.system_message),
            messages=tuple(changes.get("messages", self.messages)),
            stop_str=tuple(changes.get("stop_str", self.stop_str)),
            stop_token_ids=tuple(changes.get("stop_token_ids", self.stop_token_ids)),
            variables={**self.variables, **variables},
        )


def read_jinja_template(folder: Path) -> JinjaTemplate | None:
    """The chat template that lies in a folder, in one of the files that transformers writes.

    Returns:
        The template; None where the folder has none.

    Raises:
        TemplateError: a file is malformed.
    """
    config, named = (_read_object(folder / name) for name in _TOKENIZER_FILES)
    tokens = dict(_special_tokens(named)) | dict(_special_tokens(config))
    if is_file(path := folder / TEMPLATE_FILES[0], TemplateError):
        return JinjaTemplate(_text(path), str(path), special_tokens=tokens)
    older = folder / TEMPLATE_FILES[1]
    for path, data in ((folder / _TOKENIZER_FILES[0], config), (older, _read_object(older))):
        if (found := data.get("chat_template")) is not None:
            default, tool_use = _texts(found, path)
            return JinjaTemplate(default, str(path), tool_use, tokens)
    return None


def require_jinja_template(folder: Path) -> JinjaTemplate:
    """The same, where there must be one.

    Raises:
        TemplateError: there is none, or a file is malformed.
    """
    if (template := read_jinja_template(folder)) is None:
        raise no_template(folder)
    return template


def no_template(path: Path) -> TemplateError:
    """The error for a model without a chat template, where none is named."""
    return TemplateError(
        f"There is no chat template in {path}, and none is named. Name one with "
        "ChatConfig(conv_template=...) or --conv-template; `mlc_llm templates` lists them. A "
        "base model, which only continues text, is used with LM.",
        code="template-missing",
    )


def _read_object(path: Path) -> dict[str, Any]:
    there = is_file(path, TemplateError)
    return read_json_object(path, TemplateError) if there else {}


def _text(path: Path) -> str:
    try:
        return read_file(path, TemplateError).decode("utf-8")
    except UnicodeDecodeError as error:
        raise TemplateError(
            f"{path} is not UTF-8 at byte {error.start}. Fetch it again.",
            code="template-unreadable",
        ) from None


def _texts(found: Any, path: Path) -> tuple[str, str | None]:
    """The default template, and the one for tools, of a file that may have several by name."""
    if isinstance(found, str):
        return found, None
    named: dict[Any, Any] = {}
    if isinstance(found, list) and all(isinstance(item, dict) for item in found):
        named = {item.get("name"): item.get("template") for item in found}
    default, tool_use = named.get("default"), named.get("tool_use")
    if not isinstance(default, str) or not isinstance(tool_use, str | None):
        names = ", ".join(map(shown, named)) or shown(found)
        raise TemplateError(
            f"{path}: chat_template must be a text, or a list of templates by name, one of which "
            f"is 'default', not {names}.",
            code="template-unreadable",
        )
    return default, tool_use


def _special_tokens(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The tokens that a file names, such as ``eos_token``, by these names."""
    for name, value in data.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            yield name, text
