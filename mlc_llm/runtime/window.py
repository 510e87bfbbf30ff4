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
        size: most tokens that the cache holds.
        slides: whether the cache drops the oldest tokens when more come; otherwise ``size`` is a
            limit.
        sink: first tokens that a sliding window always sees.
        chunk: most tokens that one prefill step takes.
    """

    size: int
    slides: bool
    sink: int
    chunk: int

    @property
    def limit(self) -> int | None:
        """Most tokens of prompt and answer together; None when there is no such limit."""
        return None if self.slides else self.size

    @classmethod
    def choose(cls, config: ModelFile, metadata: LibraryMetadata) -> Self:
        """Take the sizes from the configuration, and from the library where that says nothing.

        Raises:
            ConfigError: there is no size at all, or the sizes contradict each other.
            LibraryError: the library is compiled for another sliding window.
        """
        sliding = _given(config.sliding_window_size)
        if sliding != _given(metadata.sliding_window_size):
            raise LibraryError(
                f"The library is compiled for a sliding window of {metadata.sliding_window_size} "
                f"tokens, and the configuration asks for {config.sliding_window_size}. Leave "
                "model_lib out, so that a fitting library is compiled."
            )
        slides = sliding is not None and metadata.kv_cache.trims
        size = sliding if slides else _context(config, metadata, sliding)
        if size is None:
            raise ConfigError(
                "Neither context_window_size nor sliding_window_size is set, so that the size of "
                "the KV cache is not known. Set ChatConfig(context_window_size=...)."
            )
        sink = 0 if sliding is None else _sink(config, metadata, sliding)
        chunks = (config.prefill_chunk_size, metadata.prefill_chunk_size, DEFAULT_CHUNK)
        chunk = next(value for value in chunks if value > 0)
        return cls(size, slides, sink, min(chunk, size))


def _context(config: ModelFile, metadata: LibraryMetadata, sliding: int | None) -> int | None:
    """The size of a cache that drops nothing."""
    sizes = (config.context_window_size, metadata.context_window_size)
    given = next((size for size in sizes if size > 0), None)
    return given or (sliding * WINDOWS_KEPT if sliding is not None else None)


def _sink(config: ModelFile, metadata: LibraryMetadata, sliding: int) -> int:
    """How many first tokens the sliding window always sees."""
    compiled = max(0, metadata.attention_sink_size)
    sink = config.attention_sink_size if config.attention_sink_size >= 0 else compiled
    if sink >= sliding:
        raise ConfigError(
            f"attention_sink_size ({sink}) must be less than sliding_window_size ({sliding})."
        )
    if sink != compiled and not metadata.kv_cache.trims:
        raise LibraryError(
            f"The library is compiled for an attention sink of {compiled} tokens, and the "
            f"configuration asks for {sink}. Leave model_lib out, so that a fitting library is "
            "compiled."
        )
    return sink


def _given(size: int) -> int | None:
    """None for the values that mean that nothing was given: -1 and 0."""
    return size if size > 0 else None
