"""The sizes of a KV cache, out of a model's file."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_llm.config import ModelFile
from mlc_llm.errors import ConfigError
from mlc_llm.model.llama import LlamaConfig
from mlc_llm.plugin import ModelConfig
from mlc_llm.runtime.context_window import WINDOWS_KEPT, ContextWindow
from mlc_llm.testing import raises

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
OWN: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "vocab_size": 48,
    "context_window_size": 96,
    "prefill_chunk_size": 32,
}


def choose(
    own: dict[str, int] | None = None, most: int | None = None, **file: int
) -> ContextWindow:
    """The sizes of a model, whose own fields ``own`` changes, with these in its file."""
    base = {
        "model_type": "toy",
        "quantization": "q0f32",
        "model_config": {},
        "vocab_size": 48,
        "conv_template": "LM",
    }
    model = ModelConfig.model_validate({**OWN, **(own or {})})
    return ContextWindow.choose(ModelFile.model_validate({**base, **file}), model, most)


def test_the_file_comes_before_the_model() -> None:
    assert choose() == ContextWindow(96, 32)
    assert choose(context_window_size=50, prefill_chunk_size=64) == ContextWindow(50, 50)
    silent = {"context_window_size": -1, "prefill_chunk_size": 2048}
    assert choose(silent, context_window_size=5000).chunk == 2048
    with raises("window-unset", "context_window_size", "sliding_window_size", error=ConfigError):
        choose(silent)


def test_a_device_bounds_a_prefill_step() -> None:
    assert choose(most=20) == ContextWindow(96, 20)
    assert choose(most=64) == ContextWindow(96, 32)
    assert choose(most=64, context_window_size=50, prefill_chunk_size=70) == ContextWindow(50, 50)


def test_a_sliding_window_does_not_limit_the_context() -> None:
    silent = {"context_window_size": -1, "sliding_window_size": 24}
    assert choose(silent).size == 24 * WINDOWS_KEPT
    assert choose(silent, context_window_size=300).size == 300


def test_a_sink_must_be_smaller_than_the_window() -> None:
    assert choose({"sliding_window_size": 24, "attention_sink_size": 23}) == ContextWindow(96, 32)
    assert choose({"attention_sink_size": 24}) == ContextWindow(96, 32)
    with raises("size-invalid", "attention_sink_size (24)", error=ConfigError):
        choose({"sliding_window_size": 24, "attention_sink_size": 24})


class TestTrainedLength:
    """One warning tells of a window that is larger than what the model was trained for."""

    @pytest.mark.parametrize(
        ("own", "window", "warned"),
        [
            ({"max_position_embeddings": 96}, 96, False),
            ({"max_position_embeddings": 96}, 97, True),
            ({"max_position_embeddings": -1}, 97, False),
            ({"max_position_embeddings": 96, "sliding_window_size": 24}, 97, False),
        ],
    )
    def test_warning(
        self, own: dict[str, int], window: int, warned: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        choose(own, context_window_size=window).warn_if_untrained()
        assert ["trained for 96" in text for text in caplog.messages] == [True] * warned

    @pytest.mark.parametrize(
        ("scaling", "longest"),
        [
            (None, 64),
            ({"rope_type": "linear", "factor": 4.0}, 256),
            ({"rope_type": "dynamic", "factor": 2.0}, 128),
            (YARN, 128),
            (YARN | {"original_max_position_embeddings": 16}, 64),
            ({"rope_type": "default", "factor": "many"}, 64),
        ],
    )
    def test_scaled_positions_reach_further(
        self, scaling: dict[str, Any] | None, longest: int
    ) -> None:
        fields = {"num_attention_heads": 2, "intermediate_size": 8, "rope_scaling": scaling}
        config = LlamaConfig.model_validate({**OWN, **fields, "max_position_embeddings": 64})
        assert config.longest_window == longest
