"""How many tokens a loaded model holds, and how many it reads at a time."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Self

from mlc_llm.config import ModelFile
from mlc_llm.errors import ConfigError
from mlc_llm.plugin import ModelConfig

logger = logging.getLogger("mlc_llm")

WINDOWS_KEPT = 4
"""The context of a model with a sliding window whose configuration limits nothing, in windows."""

_ROWS_PER_SEQUENCE = 8
"""Most tokens of each answer that are decoded in a pass when as many are written as can be."""


@dataclass(frozen=True)
class ContextWindow:
    """The sizes that a KV cache is made for, in tokens.

    Args:
        size: most tokens of prompt and answer together.
        chunk: most tokens that one prefill step takes.
        sequences: most answers that are written at a time.
        tokens: tokens that all of them may have together; None for one window.
        recycled: how many answers that ended are remembered, so that what goes on from them is not
            read again; None for as many as there is room for.
        trained: tokens that the model was trained for, where its files say so and matter: a sliding
            window has no such limit.
    """

    size: int
    chunk: int
    sequences: int = 8
    tokens: int | None = None
    recycled: int | None = None
    trained: int | None = field(default=None, compare=False)

    @property
    def total(self) -> int:
        """Tokens that all answers may have together."""
        return self.size if self.tokens is None else self.tokens

    @property
    def rows(self) -> int:
        """Most tokens of a pass."""
        return max(self.chunk, _ROWS_PER_SEQUENCE * self.sequences)

    @classmethod
    def choose(cls, file: ModelFile, model: ModelConfig, most: int | None = None) -> Self:
        """Take the sizes from the configuration, and from the model where that says nothing.

        Args:
            file: ``mlc-chat-config.json`` with the user's overlay.
            model: the architecture's config of that file.
            most: tokens of a prefill step that the device gains by; None for no bound.

        Raises:
            ConfigError: there is no size at all, or the sizes contradict each other.
        """
        sliding, sink = model.sliding_window_size, model.attention_sink_size
        if 0 < sliding <= sink:
            raise ConfigError(
                f"attention_sink_size ({sink}) must be less than sliding_window_size ({sliding}).",
                code="size-invalid",
            )
        own = model.context_window_size if model.context_window_size > 0 else sliding * WINDOWS_KEPT
        size = file.context_window_size if file.context_window_size > 0 else own
        if size <= 0:
            raise ConfigError(
                "Neither context_window_size nor sliding_window_size is set, so that the size of "
                "the KV cache is not known. Set ChatConfig(context_window_size=...).",
                code="window-unset",
            )
        chunk = file.prefill_chunk_size
        chunk = min(chunk if chunk > 0 else model.prefill_chunk_size, size, most or size)
        return cls(size, chunk, trained=None if sliding > 0 else model.longest_window)

    def warn_if_untrained(self) -> None:
        """Log that the window is larger than what the model was trained for, if it is."""
        if self.trained is not None and self.size > self.trained:
            logger.warning(
                "The context window has %d tokens, and the model was trained for %d: beyond these "
                "its answers become worse. ChatConfig(context_window_size=%d) keeps to them",
                self.size,
                self.trained,
                self.trained,
            )
