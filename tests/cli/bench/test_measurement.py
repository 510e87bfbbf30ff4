"""Exactly as many tokens pass as were asked for, where they were asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlc_llm.chat.loading import LoadedChat
from mlc_llm.cli.bench.measurement import WARM_UP_STEPS, Spread, measure
from mlc_llm.cli.bench.process_memory import peak_bytes, resident_bytes
from mlc_llm.cli.bench.settings import BenchSettings
from mlc_llm.runtime.memory import estimate
from mlc_llm.runtime.profile import record_kernels
from mlc_llm.testing import raises

from .conftest import CHUNK


def passes(chat: LoadedChat, settings: BenchSettings) -> list[tuple[int, int]]:
    """How many tokens each pass of a measurement had, and how many the KV cache held before."""

    def recorded(_: object) -> list[tuple[int, int]]:
        with record_kernels(chat.model) as calls:
            measure(chat, settings)
        embedded = [call for call in calls if "embedding" in call.name]
        return [(call.tensors[0].shape[0], call.context) for call in embedded]

    return chat.engine.call(recorded)


@pytest.mark.parametrize("context", [0, 17])
def test_the_tokens_that_pass(chat: LoadedChat, context: int) -> None:
    settings = BenchSettings(prompt_length=9, generate_length=11, context=context, repeat=3)
    prefill = [(8, context), (1, context + 8)]  # the last token gives the logits
    warm_up = [(1, context + step) for step in range(WARM_UP_STEPS)]
    decode = [(1, context + step) for step in range(11)]
    before = [(context - 1, 0), (1, context - 1)] if context else []
    assert passes(chat, settings) == [*before, *prefill, *warm_up, *(prefill + decode) * 3]
    assert chat.model.length == 0


def test_a_prompt_longer_than_a_chunk(chat: LoadedChat) -> None:
    settings = BenchSettings(prompt_length=CHUNK + 5, generate_length=1, context=2, repeat=1)
    prefill = [(CHUNK, 2), (4, 2 + CHUNK), (1, 6 + CHUNK)]
    assert passes(chat, settings) == [(1, 0), (1, 1), *prefill, (1, 2), *prefill, (1, 2)]


def test_the_window_can_be_filled_and_no_more(chat: LoadedChat) -> None:
    size = chat.model.window.size
    settings = BenchSettings(prompt_length=1, generate_length=6, context=size - 6, repeat=1)
    assert passes(chat, settings)[-1] == (1, size - 1)
    for fields in ({"context": size}, {"context": size - 1, "prompt_length": 2}):
        too_much = BenchSettings(**{"prompt_length": 1, "generate_length": 1, **fields})
        with raises("prompt-too-long", too_much.context, size):
            measure(chat, too_much)


def test_what_is_measured(chat: LoadedChat) -> None:
    settings = BenchSettings(prompt_length=8, generate_length=4, repeat=3)
    result = measure(chat, settings)
    for spread in (result.prefill, result.decode, result.first_token):
        assert len(spread.values) == 3
        assert spread.least > 0
    pairs = zip(result.prefill.values, result.first_token.values, strict=True)
    assert all(prefill <= first for prefill, first in pairs)
    assert result.prefill_speed.values == tuple(8 / value for value in result.prefill.values)
    assert result.decode_speed.values == tuple(4 / value for value in result.decode.values)


def test_memory(chat: LoadedChat) -> None:
    memory = measure(chat, BenchSettings(prompt_length=4, generate_length=2, repeat=1)).memory
    assert memory.weights == chat.plan.folder.total_bytes
    need = estimate(chat.model.metadata.kv_cache, chat.model.window, 0)
    assert memory.kv_cache == need.kv_cache
    if memory.loaded is not None and memory.peak is not None:
        assert memory.weights < memory.loaded <= memory.peak


def test_the_memory_of_the_process_grows_by_what_is_written() -> None:
    before, size = resident_bytes(), 64 * 2**20
    if before is None:
        pytest.skip("this system does not tell the memory of a process")
    block = np.ones(size, np.uint8)
    after, peak = resident_bytes(), peak_bytes()
    assert after is not None
    assert peak is not None
    assert size * 0.9 < after - before < size * 1.5
    assert peak >= after
    del block


def test_a_spread() -> None:
    spread = Spread((3.0, 1.0, 2.0, 10.0))
    assert (spread.median, spread.least, spread.most) == (2.5, 1.0, 10.0)
    assert spread.map(lambda value: 2 * value).values == (6.0, 2.0, 4.0, 20.0)


@pytest.mark.parametrize("value", [-1, 1.5, "8", True, None])
@pytest.mark.parametrize("name", ["prompt_length", "generate_length", "context", "repeat"])
def test_numbers_that_are_none(name: str, value: Any) -> None:
    with raises("config-invalid", name):
        BenchSettings(**{name: value})


def test_zero_is_a_context_alone() -> None:
    assert BenchSettings(context=0).context == 0
    for name in ("prompt_length", "generate_length", "repeat"):
        with raises("config-invalid", name):
            BenchSettings(**{name: 0})
