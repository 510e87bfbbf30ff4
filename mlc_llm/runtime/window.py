"""How many tokens a loaded model holds, and how many it reads at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from mlc_llm.config import ModelFile
from mlc_llm.errors import ConfigError, LibraryError
from mlc_llm.runtime.metadata import LibraryMetadata

DEFAULT_CHUNK = 2048

WINDOWS_KEPT = 4
"""The context of a model with a sliding window whose configuration limits nothing, in windows."""


@dataclass(frozen=True)
class Window:
    """The sizes that a KV cache is made for, in tokens.

    Args:
        size: most tokens that the cache holds, of prompt and answer together.
        chunk: most tokens that one prefill step takes.
    """

    size: int
    chunk: int

    @classmethod
    def choose(cls, config: ModelFile, metadata: LibraryMetadata) -> Self:
        """Take the sizes from the configuration, and from the library where that says nothing.

        Raises:
            ConfigError: there is no size at all, or the sizes contradict each other.
            LibraryError: the library is compiled for another sliding window or attention sink.
        """
        sliding = _given(config.sliding_window_size)
        if sliding != _given(metadata.sliding_window_size):
            raise LibraryError(
                f"The library is compiled for a sliding window of {metadata.sliding_window_size} "
                f"tokens, and the configuration asks for {config.sliding_window_size}. Leave "
                "model_lib out, so that a fitting library is compiled."
            )
        if sliding is not None:
            _check_sink(config, metadata, sliding)
        size = _context(config, metadata, sliding)
        if size is None:
            raise ConfigError(
                "Neither context_window_size nor sliding_window_size is set, so that the size of "
                "the KV cache is not known. Set ChatConfig(context_window_size=...)."
            )
        if metadata.rope_window is not None and size != metadata.rope_window:
            raise ConfigError(
                f"The model's position embedding depends on the context window, and the library is "
                f"compiled for {metadata.rope_window} tokens, not {size}. Make a new ChatModule "
                f"with ChatConfig(context_window_size={size})."
            )
        chunks = (config.prefill_chunk_size, metadata.prefill_chunk_size, DEFAULT_CHUNK)
        chunk = next(value for value in chunks if value > 0)
        return cls(size, min(chunk, size))


def _context(config: ModelFile, metadata: LibraryMetadata, sliding: int | None) -> int | None:
    """The most tokens that the cache keeps; None when nothing says it."""
    sizes = (config.context_window_size, metadata.context_window_size)
    given = next((size for size in sizes if size > 0), None)
    return given or (sliding * WINDOWS_KEPT if sliding is not None else None)


def _check_sink(config: ModelFile, metadata: LibraryMetadata, sliding: int) -> None:
    """Refuse a sink that the window cannot hold, or that is not the one compiled in."""
    compiled = max(0, metadata.attention_sink_size)
    sink = config.attention_sink_size if config.attention_sink_size >= 0 else compiled
    if sink >= sliding:
        raise ConfigError(
            f"attention_sink_size ({sink}) must be less than sliding_window_size ({sliding})."
        )
    if sink != compiled:
        raise LibraryError(
            f"The library is compiled for an attention sink of {compiled} tokens, and the "
            f"configuration asks for {sink}. Leave model_lib out, so that a fitting library is "
            "compiled."
        )


def _given(size: int) -> int | None:
    """None for the values that mean that nothing was given: -1 and 0."""
    return size if size > 0 else None
