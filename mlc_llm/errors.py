"""Every error that ``mlc_llm`` raises on purpose.

A message says what was wrong, what was looked at and what to do about it. All of them derive from
:class:`MLCError`, so one ``except`` catches them all; those about bad values are also
``ValueError``, those about missing files also ``FileNotFoundError``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from mlc_llm.shown import shown


class MLCError(Exception):
    """Base class of the errors that mlc_llm raises."""


class ConfigError(MLCError, ValueError):
    """A configuration value is unknown, malformed or out of its range."""


class PluginError(MLCError):
    """A plugin is missing, broken, incompatible or ambiguous."""


class DeviceError(MLCError):
    """A device is unknown, not available or does not exist."""


class ModelNotFoundError(MLCError, FileNotFoundError):
    """No model folder is where one was named."""


class ModelFolderError(MLCError):
    """A model folder is incomplete, malformed or inconsistent."""


class ConversionError(MLCError):
    """A source model cannot be converted."""


class QuantizationError(MLCError, ValueError):
    """A quantisation is unknown or does not fit."""


class LibraryError(MLCError):
    """No usable model library, or one that does not fit the model, the device or this machine."""


class CompileError(MLCError):
    """Compiling a model library failed."""


class TokenizerError(MLCError):
    """A tokenizer is missing, malformed or does not fit the model."""


class TemplateError(MLCError, ValueError):
    """A conversation template is unknown or malformed."""


class PromptTooLongError(MLCError, ValueError):
    """A prompt does not fit into the model's context window."""


class HubError(MLCError):
    """A model could not be fetched from the hub."""


class GenerationError(MLCError):
    """A generation failed inside the engine."""


class SavedChatError(MLCError):
    """A conversation, or its keys and values, cannot be saved, read, or used here."""


def unknown(kind: str, name: object, choices: Iterable[str]) -> str:
    """Return the message for a name that is none of ``choices``: the nearest names, then all.

    Args:
        kind: what was named, such as ``"quantization"``.
        name: the name that was given.
        choices: the names there are.
    """
    known = sorted(choices)
    folded = {choice.lower(): choice for choice in known}
    word = name[:100].lower() if isinstance(name, str) else ""
    near = difflib.get_close_matches(word, list(folded), n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(folded[n]) for n in near)}?" if near else ""
    listed = ", ".join(known) if known else "none"
    return f"Unknown {kind} {shown(name)}.{hint} Known: {listed}."
