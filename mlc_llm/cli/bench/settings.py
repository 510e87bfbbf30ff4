"""What a benchmark measures: how many tokens, after how many, how often."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mlc_llm.errors import ConfigError, PromptTooLongError

_LEAST = {"prompt_length": 1, "generate_length": 1, "context": 0, "repeat": 1}


@dataclass(frozen=True)
class BenchSettings:
    """The sizes of a benchmark, in tokens.

    Args:
        prompt_length: tokens of a prefill; at least 1.
        generate_length: decode steps of one token; at least 1.
        context: tokens that are in the KV cache before a prefill, and before the first decode
            step.
        repeat: how often each is measured; at least 1.

    Raises:
        ConfigError: a number is none, or too small.
    """

    prompt_length: int = 128
    generate_length: int = 128
    context: int = 0
    repeat: int = 5

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} must be a whole number from {least}, not {value!r}.")

    @property
    def stream_prompt(self) -> int:
        """Tokens of the prompt of each stream, where several are measured."""
        return self.context + self.prompt_length

    @property
    def stream_length(self) -> int:
        """Tokens of its prompt and its answer."""
        return self.stream_prompt + self.generate_length

    def require_window(self, window: int) -> None:
        """Check that everything fits into a context window of that many tokens.

        Raises:
            PromptTooLongError: it does not; the message has both numbers.
        """
        longest = max(self.prompt_length, self.generate_length)
        if self.context + longest > window:
            raise PromptTooLongError(
                f"A context of {self.context} tokens and {longest} more do not fit into the "
                f"context window of {window}. Measure fewer, or set a larger context_window_size "
                "in the model's mlc-chat-config.json if the model can."
            )

    def require_stream_window(self, window: int) -> None:
        """Check that a stream fits into a context window of that many tokens.

        Raises:
            PromptTooLongError: it does not; the message has the numbers.
        """
        if self.stream_length > window:
            raise PromptTooLongError(
                f"A stream's prompt of {self.stream_prompt} tokens and its answer of "
                f"{self.generate_length} do not fit into the context window of {window}. Measure "
                "fewer, or set a larger context_window_size in the model's mlc-chat-config.json "
                "if the model can."
            )


def stream_counts(streams: Iterable[int]) -> tuple[int, ...]:
    """Numbers of streams, ascending, each once, with 1 among them.

    Raises:
        ConfigError: one of them is not a whole number from 1.
    """
    numbers = [*streams]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ConfigError(f"streams must be whole numbers from 1, not {number!r}.")
    return tuple(sorted({1, *numbers}))
