"""``EngineConfig``, and the sizes that it, the mode and the model make together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

from mlc_llm.config import ChatConfig, Overlay
from mlc_llm.config.numbers import Count, Natural, Sequences
from mlc_llm.errors import ConfigError
from mlc_llm.runtime.context_window import ContextWindow

Mode = Literal["local", "interactive", "server"]
"""How an engine is used: by some programs of one machine, by one person, or by many."""

SEQUENCES: dict[Mode, int] = {"local": 4, "interactive": 1, "server": 80}
"""Most sequences at once where the configuration does not say; those of MLC LLM. A server has fewer
where its memory has no room for that many of :data:`SHORT_SEQUENCE` tokens."""

SHORT_SEQUENCE = 256
"""Tokens of a short prompt and its answer."""

MEMORY_SHARE = 0.85
"""How much of the memory that there is a server takes; as in MLC LLM."""


class EngineConfig(Overlay):
    """How many requests an engine serves at once, and what it keeps of them.

    The fields and their meanings are MLC LLM's. What is not set follows from the engine's mode and
    from the model. A sequence is one answer with its prompt; lengths are numbers of tokens.

    Args:
        max_num_sequence: most sequences that are in the KV cache at once; by default 4 in the mode
            ``local``, 1 in ``interactive``, and in ``server`` as many as memory has room for, but
            not more than 80.
        max_total_sequence_length: tokens that the KV cache holds of all sequences; by default
            those of one sequence of full length, in the mode ``server`` as many as memory has room
            for.
        max_single_sequence_length: most tokens of one sequence; by default the model's context
            window.
        prefill_chunk_size: most tokens that one step reads of prompts.
        max_history_size: how many tokens a recurrent state can go back. Models here have a KV
            cache, which goes back to any token, so that every value holds.
        prefix_cache_mode: ``radix``, the default, keeps the keys and values of finished sequences,
            so that what another prompt shares with them is not read again; ``disable`` does not.
        prefix_cache_max_num_recycling_seqs: how many finished sequences it keeps: 0 for none, -1
            for as many as the KV cache has room for, which is the default.
        speculative_mode: ``ngram`` looks up what may come next in the context and verifies it in
            one pass; ``disable`` does not.
    """

    max_num_sequence: Count | None = None
    max_total_sequence_length: Count | None = None
    max_single_sequence_length: Count | None = None
    prefill_chunk_size: Count | None = None
    max_history_size: Natural | None = None
    prefix_cache_mode: Literal["disable", "radix"] | None = None
    prefix_cache_max_num_recycling_seqs: Sequences | None = None
    speculative_mode: Literal["disable", "ngram"] | None = None

    def laid_under(self, chat_config: ChatConfig | None) -> ChatConfig:
        """The model's overlay with the sizes of the KV cache that this configuration sets.

        Raises:
            ConfigError: both set a size, and not the same.
        """
        overlay = ChatConfig() if chat_config is None else chat_config.model_copy(deep=True)
        pairs = {
            "context_window_size": "max_single_sequence_length",
            "prefill_chunk_size": "prefill_chunk_size",
        }
        for theirs, ours in pairs.items():
            given, wanted = getattr(overlay, theirs), getattr(self, ours)
            if wanted is None:
                continue
            if given is not None and given != wanted:
                raise ConfigError(
                    f"ChatConfig.{theirs} ({given}) and EngineConfig.{ours} ({wanted}) are the "
                    "same size: give one of them.",
                    code="size-invalid",
                )
            setattr(overlay, theirs, wanted)
        return overlay


@dataclass(frozen=True)
class EngineSizes:
    """The sizes of an engine.

    Args:
        sequences: most sequences at once.
        single_length: most tokens of one of them.
        total_length: tokens that the KV cache holds of all sequences.
        chunk: most tokens of prompts that one step reads.
        recycled: finished sequences that are kept; None for as many as there is room for.
    """

    sequences: int
    single_length: int
    total_length: int
    chunk: int
    recycled: int | None

    @classmethod
    def choose(
        cls, config: EngineConfig, mode: Mode, window: ContextWindow, room: int | None = None
    ) -> Self:
        """Take what the configuration sets, and the rest from the mode and the model.

        Args:
            config: the configuration.
            mode: the mode.
            window: the model's context window and prefill chunk.
            room: tokens that memory has room for in the KV cache; None where that is not known.

        Raises:
            ConfigError: the sizes contradict each other.
        """
        total = config.max_total_sequence_length
        single = config.max_single_sequence_length or min(window.size, total or window.size)
        if total is None:
            total = single if mode != "server" or room is None else max(single, room)
            total = min(total, single * (config.max_num_sequence or SEQUENCES[mode]))
        room_for = max(1, total // SHORT_SEQUENCE) if mode == "server" else total
        sequences = config.max_num_sequence or min(SEQUENCES[mode], room_for)
        chunk = config.prefill_chunk_size or min(window.chunk, total)
        _require_at_most("max_single_sequence_length", single, total)
        _require_at_most("max_num_sequence", sequences, total)
        _require_at_most("prefill_chunk_size", chunk, total)
        return cls(sequences, single, total, chunk, _recycled(config))

    def of_cache(self, window: ContextWindow) -> ContextWindow:
        """The sizes of a KV cache, of a model with that window."""
        return replace(
            window,
            size=self.single_length,
            chunk=self.chunk,
            sequences=self.sequences,
            tokens=self.total_length,
            recycled=self.recycled,
        )


def _require_at_most(name: str, value: int, total: int) -> None:
    if value > total:
        raise ConfigError(
            f"{name} ({value}) must not be above max_total_sequence_length ({total}), the tokens "
            "that the KV cache holds.",
            code="size-invalid",
        )


def _recycled(config: EngineConfig) -> int | None:
    """The finished sequences that are kept; None for no limit."""
    count = config.prefix_cache_max_num_recycling_seqs
    if config.prefix_cache_mode != "disable":
        return None if count == -1 else count
    if count:
        raise ConfigError(
            f"prefix_cache_max_num_recycling_seqs ({count}) contradicts prefix_cache_mode "
            "('disable'), which keeps none: leave one of them out.",
            code="size-invalid",
        )
    return 0
