"""Llama's and Mistral's configs and weight maps, against published files and transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from mlc_llm.model.llama import LLAMA
from mlc_llm.model.mistral import MISTRAL
from mlc_llm.model.module import named_parameters
from mlc_llm.model.stored import stored_parameters
from mlc_llm.quantization import plan

LLAMA_2_7B = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "rms_norm_eps": 1e-05,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}


def test_reads_the_config_that_hugging_face_writes(stories260k: Path) -> None:
    config = LLAMA.config(json.loads((stories260k / "config.json").read_text()))
    assert (config.num_attention_heads, config.num_key_value_heads) == (8, 4)
    assert (config.head_dim, config.intermediate_size, config.vocab_size) == (8, 172, 512)
    assert config.tie_word_embeddings
    assert config.context_window_size == 512


def test_heads_and_head_dim_follow_from_what_is_given() -> None:
    data = {key: value for key, value in LLAMA_2_7B.items() if key != "num_key_value_heads"}
    config = LLAMA.config(data)
    assert config.num_key_value_heads == 32
    assert config.head_dim == 128


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
LINEAR = {"rope_type": "linear", "factor": 4.0}


@pytest.mark.parametrize(
    ("fields", "base", "kind"),
    [
        ({}, 10000.0, None),
        ({"rope_theta": 500000.0}, 500000.0, None),
        ({"position_embedding_base": None, "rope_theta": 500000.0}, 500000.0, None),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, 10000.0, "linear"),
        ({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, 1e6, None),
        ({"rope_parameters": {"rope_theta": 1e4, **LLAMA3}}, 1e4, "llama3"),
        ({"position_embedding_base": 123.0, "rope_scaling": LINEAR}, 123.0, "linear"),
        ({"rope_scaling": {"rope_type": "default", "rope_theta": 500.0}}, 500.0, None),
        ({"rope_theta": 1e4, "rope_scaling": {**LINEAR, "rope_theta": 500.0}}, 500.0, "linear"),
        ({"rope_scaling": LINEAR, "rope_parameters": {"rope_theta": 7.0}}, 10000.0, "linear"),
    ],
)
def test_rope_is_found_wherever_it_stands(
    fields: dict[str, Any], base: float, kind: str | None
) -> None:
    config = LLAMA.config({**LLAMA_2_7B, **fields})
    assert config.position_embedding_base == base
    assert (config.rope_scaling or {}).get("rope_type") == kind


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"rope_scaling": {"rope_type": "mrope", "factor": 4.0}}, "mrope"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor"),
        ({"rope_scaling": {"type": "linear"}}, "factor"),
        ({"rope_parameters": ["linear"]}, "rope_parameters"),
        ({"hidden_act": "quick_gelu"}, "quick_gelu"),
        ({"hidden_act": ["silu"]}, "silu"),
        ({"num_key_value_heads": 5}, "num_key_value_heads"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"rms_norm_eps": -1}, "rms_norm_eps"),
        ({"rope_scaling": 8.0}, "rope_scaling"),
        ({"rope_scaling": {**LLAMA3, "factor": "x"}}, "factor"),
        ({"rope_scaling": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial"),
        ({"max_position_embeddings": "many", "rope_scaling": LLAMA3}, "max_position_embeddings"),
        ({"hidden_size": "wide"}, "hidden_size"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        LLAMA.config({**LLAMA_2_7B, **fields})


def test_a_config_survives_the_way_through_its_shape() -> None:
    config = LLAMA.config({**LLAMA_2_7B, "rope_scaling": {"type": "linear", "factor": 2.0}})
    again = LLAMA.config({**config.shape(), "vocab_size": 7, "context_window_size": 9})
    assert again.shape() == config.shape()


def test_fine_tunes_with_other_vocabularies_and_windows_share_a_shape() -> None:
    tuned = {**LLAMA_2_7B, "vocab_size": 32016, "max_position_embeddings": 16384}
    assert LLAMA.config(tuned).shape() == LLAMA.config(LLAMA_2_7B).shape()


@pytest.mark.parametrize(
    ("beside", "inside", "found"),
    [(64, {}, 64), (64, {"original_max_position_embeddings": 32}, 64), (None, {}, 4096)],
)
def test_the_length_that_rope_was_trained_for(
    beside: int | None, inside: dict[str, int], found: int
) -> None:
    """As transformers 5: what stands beside the object, what is in it, all positions."""
    scaling = {name: value for name, value in LLAMA3.items() if "original" not in name}
    fields = {"rope_scaling": {**scaling, **inside}, "original_max_position_embeddings": beside}
    config = LLAMA.config({**LLAMA_2_7B, **fields})
    assert config.rope_scaling is not None
    assert config.rope_scaling["original_max_position_embeddings"] == found


def test_defaults_are_those_of_transformers() -> None:
    named = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
    least = {name: LLAMA_2_7B[name] for name in (*named, "vocab_size")}
    llama, mistral = LLAMA.config(least), MISTRAL.config(least)
    assert (llama.rms_norm_eps, llama.context_window_size) == (1e-6, 2048)
    assert (llama.hidden_act, llama.tie_word_embeddings) == ("silu", False)
    assert (mistral.context_window_size, mistral.sliding_window_size) == (131072, 4096)


def test_llama_has_no_sliding_window_of_its_own() -> None:
    """Folders that were made of Mistral's still name one, and transformers does not look at it."""
    config = LLAMA.config({**LLAMA_2_7B, "sliding_window": 8})
    assert config.sliding_window_size == -1
    assert LLAMA.attention(config)[0].window is None


@pytest.mark.parametrize("window", [None, 4096])
def test_mistral_reads_its_window(window: int | None) -> None:
    config = MISTRAL.config({**LLAMA_2_7B, "sliding_window": window})
    assert config.sliding_window_size == (window or -1)


def test_attention_sinks_are_part_of_the_shape_of_a_sliding_model() -> None:
    window = {**LLAMA_2_7B, "sliding_window": 4096}
    plain, sinks = MISTRAL.config(window), MISTRAL.config({**window, "attention_sink_size": 4})
    assert plain.shape() != sinks.shape()


def test_stored_parameters_are_those_of_the_official_library(test_data: Path) -> None:
    official = json.loads(
        (test_data / "mlc/libraries/Llama-2-7b-chat-hf-q4f16_1.metadata.json").read_text()
    )
    module = LLAMA.module(LLAMA.config(LLAMA_2_7B))
    ours = stored_parameters(module, plan("q4f16_1"))
    assert [(one.name, list(one.shape), one.dtype) for one in ours] == [
        (param["name"], param["shape"], param["dtype"]) for param in official["params"]
    ]


def test_the_weight_map_has_the_parameters_of_the_module_in_its_order() -> None:
    for tied in (False, True):
        config = LLAMA.config({**LLAMA_2_7B, "num_hidden_layers": 2, "tie_word_embeddings": tied})
        names = list(named_parameters(LLAMA.module(config)))
        assert [weight.name for weight in LLAMA.weights(config)] == names


@pytest.mark.parametrize("model_type", ["llama", "mistral"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_weight_map_uses_every_tensor_of_a_checkpoint(
    make_checkpoint: Any, model_type: str, tied: bool
) -> None:
    folder = make_checkpoint(model_type, tie_word_embeddings=tied)
    architecture = {"llama": LLAMA, "mistral": MISTRAL}[model_type]
    config = architecture.config(json.loads((folder / "config.json").read_text()))
    used = {source for weight in architecture.weights(config) for source in weight.sources}
    with safe_open(folder / "model.safetensors", "np") as checkpoint:
        assert used == set(checkpoint.keys())


LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 64,
    "long_factor": [2.0] * 64,
    "original_max_position_embeddings": 512,
}


@pytest.mark.parametrize("scaling", [LONGROPE, {"rope_type": "dynamic", "factor": 2.0}])
def test_code_belongs_to_one_window_where_rope_depends_on_it(scaling: dict[str, Any]) -> None:
    model = {**LLAMA_2_7B, "max_position_embeddings": 1024, "rope_scaling": scaling}
    own = LLAMA.config(model)
    other = LLAMA.config({**model, "context_window_size": 2048})
    assert own.shape() != other.shape()
    assert (other.context_window_size, other.max_position_embeddings) == (2048, 1024)
    again = LLAMA.config({"vocab_size": 1, "context_window_size": -1, **other.shape()})
    assert again.rope() == other.rope()
    short = LLAMA.config({**model, "context_window_size": 256})
    assert short.rope() != other.rope()
