"""``EngineConfig``, and the sizes of an engine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_llm import ChatConfig, EngineConfig
from mlc_llm.engine.config import EngineSizes
from mlc_llm.errors import ConfigError
from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.testing import raises

WINDOW = ContextWindow(4096, 512)


@pytest.mark.parametrize(
    ("mode", "fields", "room", "expected"),
    [
        ("local", {}, None, (4, 4096, 4096, 512, None)),
        ("local", {}, 10**6, (4, 4096, 4096, 512, None)),
        ("interactive", {}, None, (1, 4096, 4096, 512, None)),
        ("server", {}, None, (16, 4096, 4096, 512, None)),
        ("server", {}, 10_000, (39, 4096, 10_000, 512, None)),
        ("server", {}, 10**6, (80, 4096, 80 * 4096, 512, None)),
        ("server", {}, 100, (16, 4096, 4096, 512, None)),
        ("server", {"max_num_sequence": 2}, 10**6, (2, 4096, 8192, 512, None)),
        ("local", {"max_num_sequence": 9}, None, (9, 4096, 4096, 512, None)),
        ("local", {"max_total_sequence_length": 9000}, None, (4, 4096, 9000, 512, None)),
        ("local", {"max_total_sequence_length": 300}, None, (4, 300, 300, 300, None)),
        ("local", {"max_single_sequence_length": 8192}, None, (4, 8192, 8192, 512, None)),
        ("local", {"prefill_chunk_size": 64}, None, (4, 4096, 4096, 64, None)),
        (
            "local",
            {"max_history_size": 5, "speculative_mode": "disable"},
            None,
            (4, 4096, 4096, 512, None),
        ),
        ("local", {"prefix_cache_mode": "disable"}, None, (4, 4096, 4096, 512, 0)),
        ("local", {"prefix_cache_max_num_recycling_seqs": 0}, None, (4, 4096, 4096, 512, 0)),
        ("local", {"prefix_cache_max_num_recycling_seqs": 7}, None, (4, 4096, 4096, 512, 7)),
        ("local", {"prefix_cache_max_num_recycling_seqs": -1}, None, (4, 4096, 4096, 512, None)),
    ],
)
def test_what_is_not_said_follows_from_mode_and_model(
    mode: Any, fields: dict[str, Any], room: int | None, expected: tuple[int, ...]
) -> None:
    sizes = EngineSizes.choose(EngineConfig(**fields), mode, WINDOW, room)
    assert sizes == EngineSizes(*expected)


@pytest.mark.parametrize(
    ("fields", "numbers"),
    [
        ({"max_single_sequence_length": 500, "max_total_sequence_length": 400}, (500, 400)),
        ({"max_num_sequence": 40, "max_total_sequence_length": 30}, (40, 30)),
        ({"prefill_chunk_size": 600, "max_total_sequence_length": 500}, (600, 500)),
        ({"prefill_chunk_size": 5000}, (5000, 4096)),
        ({"prefix_cache_mode": "disable", "prefix_cache_max_num_recycling_seqs": 3}, (3,)),
    ],
)
def test_sizes_that_contradict_each_other(fields: dict[str, Any], numbers: tuple[int, ...]) -> None:
    with raises("size-invalid", *numbers, *fields, error=ConfigError):
        EngineSizes.choose(EngineConfig(**fields), "local", WINDOW)


COUNT = st.none() | st.integers(1, 10_000)


@given(
    mode=st.sampled_from(["local", "interactive", "server"]),
    sequences=COUNT,
    total=COUNT,
    single=COUNT,
    chunk=COUNT,
    window=st.integers(1, 10_000),
    room=st.none() | st.integers(0, 10**7),
)
def test_sizes_always_fit_each_other(
    mode: Any,
    sequences: int | None,
    total: int | None,
    single: int | None,
    chunk: int | None,
    window: int,
    room: int | None,
) -> None:
    config = EngineConfig(
        max_num_sequence=sequences,
        max_total_sequence_length=total,
        max_single_sequence_length=single,
        prefill_chunk_size=chunk,
    )
    try:
        sizes = EngineSizes.choose(config, mode, ContextWindow(window, min(window, 512)), room)
    except ConfigError:
        cached = total or single or window
        assert max(sequences or 0, single or 0, chunk or 0) > cached
        return
    assert 1 <= max(sizes.single_length, sizes.sequences, sizes.chunk) <= sizes.total_length
    for wanted, value in (
        (sequences, sizes.sequences),
        (total, sizes.total_length),
        (single, sizes.single_length),
        (chunk, sizes.chunk),
    ):
        assert wanted in (None, value)


def test_a_field_that_there_is_not() -> None:
    with raises("field-unknown", "max_num_sequences", "max_num_sequence"):
        EngineConfig(max_num_sequences=4)
    with raises("config-invalid", "speculative_mode", "eagle", "ngram"):
        EngineConfig(speculative_mode="eagle")
    for name in ("max_num_sequence", "max_total_sequence_length", "prefill_chunk_size"):
        with raises("config-invalid", name, 0):
            EngineConfig(**{name: 0})


def test_it_is_laid_under_a_chats_own_configuration() -> None:
    config = EngineConfig(max_single_sequence_length=256, prefill_chunk_size=64)
    given_config = ChatConfig(temperature=0.5, context_window_size=256)
    overlay = config.laid_under(given_config)
    assert overlay.overrides() == {
        "temperature": 0.5,
        "context_window_size": 256,
        "prefill_chunk_size": 64,
    }
    assert given_config.overrides() == {"temperature": 0.5, "context_window_size": 256}
    assert EngineConfig().laid_under(None).overrides() == {}


def test_a_cache_has_these_sizes() -> None:
    window = ContextWindow(4096, 512, trained=2048)
    config = EngineConfig(
        max_num_sequence=3,
        max_total_sequence_length=9000,
        prefix_cache_max_num_recycling_seqs=2,
    )
    cache = EngineSizes.choose(config, "local", window).of_cache(window)
    assert cache == ContextWindow(4096, 512, 3, 9000, 2)
    assert cache.trained == 2048
