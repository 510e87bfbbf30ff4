"""An agent that sends its whole conversation each time, as text, while others are served."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_llm import EngineConfig, MLCEngine

from .conftest import Loader

PAGE = 16


def turns(engine: MLCEngine, count: int, between: bool) -> None:
    """Check of each turn that only what is new is read, and at most a page more."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Go on."}]
    held = 0
    for turn in range(count):
        reply = engine.chat.completions.create(messages=messages, max_tokens=8, seed=turn)
        usage = reply.usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        read = usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens
        assert read <= usage.prompt_tokens - held + PAGE, f"turn {turn}"
        # The last token of an answer is not computed before another one follows.
        held = usage.prompt_tokens + usage.completion_tokens - 1
        text = reply.choices[0].message.content
        messages += [
            {"role": "assistant", "content": text},
            {"role": "user", "content": f"The tool says {turn}."},
        ]
        if between:
            other = [{"role": "user", "content": f"Something else, {turn}: " + "x" * 30}]
            engine.chat.completions.create(messages=other, max_tokens=4)


@pytest.mark.parametrize("between", [False, True])
def test_twenty_turns(load: Loader, between: bool) -> None:
    config = EngineConfig(max_total_sequence_length=2048)
    turns(load(config=config, temperature=0.8, context_window_size=1024), 20, between)


def test_without_a_prefix_cache_all_is_read(load: Loader) -> None:
    engine = load(config=EngineConfig(prefix_cache_mode="disable"))
    for _ in range(2):
        reply = engine.chat.completions.create(
            messages=[{"role": "user", "content": "Go on. " * 9}], max_tokens=4
        )
        assert reply.usage.prompt_tokens_details.cached_tokens == 0
