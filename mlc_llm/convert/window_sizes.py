"""The sizes of a model's windows: its own, and what the user asks for instead."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Self

from mlc_llm.errors import ConfigError
from mlc_llm.plugin import ModelConfig

UNLIMITED = -1


@dataclass(frozen=True)
class Sizes:
    """Sizes that a user asks for; None for the model's own.

    Args:
        context_window_size: tokens that the conversation may hold.
        sliding_window_size: tokens that attention looks back, -1 for all.
        prefill_chunk_size: most tokens of one prefill step.
        attention_sink_size: first tokens that a sliding window keeps.
        max_batch_size: most sequences that are generated at once; 1 by default.
    """

    context_window_size: int | None = None
    sliding_window_size: int | None = None
    prefill_chunk_size: int | None = None
    attention_sink_size: int | None = None
    max_batch_size: int | None = None


@dataclass(frozen=True)
class WindowSizes:
    """Sizes in tokens, as ``mlc-chat-config.json`` has them; -1 means that there is no such limit.

    Args:
        context_window_size: tokens that the conversation may hold.
        sliding_window_size: tokens that attention looks back.
        prefill_chunk_size: most tokens of one prefill step.
        attention_sink_size: first tokens that a sliding window keeps; -1 for the model's own.
    """

    context_window_size: int
    sliding_window_size: int
    prefill_chunk_size: int
    attention_sink_size: int

    @classmethod
    def choose(cls, config: ModelConfig, given: Sizes) -> Self:
        """Take the sizes that are given, and the model's own for those that are None.

        Raises:
            ConfigError: a size is out of its range or contradicts another.
        """
        sliding = _size(
            "sliding_window_size", given.sliding_window_size, config.sliding_window_size
        )
        # As in MLC: a sliding window takes the place of the limit.
        own = UNLIMITED if sliding > 0 else config.context_window_size
        context = _size("context_window_size", given.context_window_size, own)
        sink = given.attention_sink_size
        sink = config.attention_sink_size if sink is None else sink
        if sink < UNLIMITED:
            raise ConfigError(
                f"attention_sink_size must be -1 or more, not {sink}.", code="size-invalid"
            )
        window = sliding if sliding > 0 else context
        if window < 1:
            raise ConfigError(
                "The model has no sliding window, so context_window_size must be a number of "
                f"tokens (it is {context}).",
                code="size-invalid",
            )
        if sliding > 0 and sink >= sliding:
            raise ConfigError(
                f"attention_sink_size ({sink}) must be less than sliding_window_size ({sliding}).",
                code="size-invalid",
            )
        chunk = _size("prefill_chunk_size", given.prefill_chunk_size, config.prefill_chunk_size)
        if given.prefill_chunk_size is not None and chunk > window:
            raise ConfigError(
                f"prefill_chunk_size ({chunk}) is more than the window ({window}).",
                code="size-invalid",
            )
        return cls(context, sliding, min(chunk, window), sink)

    def fields(self) -> dict[str, int]:
        """The sizes by their names in the file."""
        return asdict(self)


def _size(name: str, given: int | None, own: int) -> int:
    """The size that was given, or else the model's own; a positive number or -1."""
    size = own if given is None else given
    if size < 1 and size != UNLIMITED:
        raise ConfigError(
            f"{name} must be a number of tokens, or -1, not {size}.", code="size-invalid"
        )
    return size
