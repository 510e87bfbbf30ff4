"""``/set``: how answers are generated, changed while the chat goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlc_llm.errors import ConfigError, MLCError, unknown

if TYPE_CHECKING:
    from mlc_llm.config import ChatConfig, GenerationConfig

SETTINGS: dict[str, type[int] | type[float]] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "repetition_penalty": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "max_gen_len": int,
    "mean_gen_len": int,
    "seed": int,
}
"""What can be set, and what kind of number it is."""

DEFAULT = "default"
"""The word that takes a setting back."""


def set_sampling(generation: GenerationConfig, chat_config: ChatConfig, text: str) -> list[str]:
    """Do what ``/set`` says.

    Args:
        generation: the settings; one of them may be changed.
        chat_config: what is in force where they say nothing.
        text: nothing, a name, or a name and a value.

    Returns:
        What to show: the settings that were asked for, or the one that was changed.

    Raises:
        MLCError: the name is unknown, or the value is not one that the setting takes.
    """
    name, _, value = text.replace("=", " ").partition(" ")
    names = [name] if name else list(SETTINGS)
    if name and name not in SETTINGS:
        raise MLCError(unknown("setting", name, SETTINGS), code="field-unknown")
    if value.strip():
        setattr(generation, name, _value(name, value.strip()))
    return [f"{one} {_in_force(one, generation, chat_config)}" for one in names]


def _value(name: str, text: str) -> int | float | None:
    kind = SETTINGS[name]
    if text == DEFAULT:
        return None
    try:
        return kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{name} must be {what}, or {DEFAULT}, not {text!r}.") from None


def _in_force(name: str, generation: GenerationConfig, chat_config: ChatConfig) -> str:
    value: Any = getattr(generation, name)
    if value is None:
        value = getattr(chat_config, name, None)
    return "off" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
