"""Every error that ``mlc_llm`` raises on purpose.

A message says what was wrong, what was looked at and what to do about it. All of them derive from
:class:`MLCError`, so one ``except`` catches them all; those about bad values are also
``ValueError``, those about missing files also ``FileNotFoundError``.

Each has a ``code``, such as ``"template-unknown"``, for what went wrong. A program tells errors
apart by it, and ``docs/troubleshooting.md`` has an entry for it: a code means the same in every
release, while the wording of a message may change in any.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from mlc_llm.shown import shown


class MLCError(Exception):
    """Base class of the errors that mlc_llm raises.

    Args:
        message: what is shown to the user; ``str(error)`` is this text.
        code: what went wrong, in lower-case words with hyphens; by default the code of the class.
    """

    code: str = "error"
    """What went wrong, for programs and for the page on troubleshooting."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        # An attribute of its own, so that a copied or pickled error keeps it.
        if code is not None:
            self.code = code


class ConfigError(MLCError, ValueError):
    """A configuration value is unknown, malformed or out of its range."""

    code = "config-invalid"


class PluginError(MLCError):
    """A plugin is missing, broken, incompatible or ambiguous."""

    code = "plugin-broken"


class DeviceError(MLCError):
    """A device is unknown, not available or does not exist."""

    code = "device-unavailable"


class ModelNotFoundError(MLCError, FileNotFoundError):
    """No model folder is where one was named."""

    code = "model-not-found"


class ModelFolderError(MLCError):
    """A model folder is incomplete, malformed or inconsistent."""

    code = "folder-invalid"


class ConversionError(MLCError):
    """A source model cannot be converted."""

    code = "conversion-failed"


class QuantizationError(MLCError, ValueError):
    """A quantisation is unknown or does not fit."""

    code = "quantization-invalid"


class LibraryError(MLCError):
    """No usable model library, or one that does not fit the model, the device or this machine."""

    code = "library-unusable"


class CompileError(MLCError):
    """Compiling a model library failed."""

    code = "compilation-failed"


class TokenizerError(MLCError):
    """A tokenizer is missing, malformed or does not fit the model."""

    code = "tokenizer-damaged"


class TemplateError(MLCError, ValueError):
    """A conversation template is unknown or malformed."""

    code = "template-invalid"


class PromptTooLongError(MLCError, ValueError):
    """A prompt does not fit into the model's context window."""

    code = "prompt-too-long"


class HubError(MLCError):
    """A model could not be fetched from the hub."""

    code = "download-failed"


class GenerationError(MLCError):
    """A generation failed inside the engine."""

    code = "generation-failed"


class SavedChatError(MLCError):
    """A conversation, or its keys and values, cannot be saved, read, or used here."""

    code = "saved-chat-invalid"


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
