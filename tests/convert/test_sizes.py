"""Sizes in a configuration are checked before anything is made of them."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlc_llm.chat.plan import plan_chat
from mlc_llm.compile import compile_model
from mlc_llm.convert import convert_weight, gen_config
from mlc_llm.errors import ConversionError, MLCError, ModelFolderError
from mlc_llm.model.llama import LLAMA, Llama
from mlc_llm.plugin.architecture import MOST_LAYERS
from mlc_llm.registry.registry import default_registry
from mlc_llm.testing import make_checkpoint, make_model_folder, raises

NOT_FINITE = [float("nan"), float("inf"), float("-inf")]
WRONG_BASES = [*NOT_FINITE, 0, 0.0, -1, -10000.0, 1, False, True, 10**400, [], {}, "base"]
SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings"),
)
FIELDS = st.sampled_from([*SIZES, "rms_norm_eps", "rope_theta", "rope_scaling", "sliding_window"])
NUMBERS = st.one_of(
    st.integers(-3, 600),
    st.sampled_from([10**6, 2**31, 2**63, 10**30, 10**400]),
    st.floats(),
    st.sampled_from([None, True, "64", "x", "\ud800", [], [8], {}, {"rope_theta": 0}]),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint and a model folder, whose configurations are changed."""
    root = tmp_path_factory.mktemp("sizes")
    return make_checkpoint(root / "source"), make_model_folder(root / "model")


@pytest.fixture
def edited(folders: tuple[Path, Path]) -> Iterator[Callable[..., tuple[Path, Path]]]:
    """Change fields of both configurations."""
    source, model = folders
    configs = (source / "config.json", model / "mlc-chat-config.json")
    texts = [path.read_text() for path in configs]

    def edit(**fields: Any) -> tuple[Path, Path]:
        data = json.loads(texts[1])
        data["model_config"] |= fields
        configs[0].write_text(json.dumps({**json.loads(texts[0]), **fields}))
        configs[1].write_text(json.dumps(data))
        return source, model

    yield edit
    for path, text in zip(configs, texts, strict=True):
        path.write_text(text)


def load(model: Path) -> None:
    plan_chat(str(model), "cpu", None, None, default_registry())


@given(st.sampled_from(["llama", "mistral"]), st.dictionaries(FIELDS, NUMBERS, min_size=1))
@example("llama", {"num_attention_heads": 0})
@example("llama", {"num_key_value_heads": 3})
@example("llama", {"head_dim": 2**30})
@example("mistral", {"sliding_window": 2**40})
@settings(
    max_examples=60,
    deadline=5000,  # milliseconds: a refusal takes no work
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_sizes_are_taken_or_refused(
    edited: Callable[..., tuple[Path, Path]], architecture: str, fields: dict[str, Any]
) -> None:
    source, model = edited(**{**fields, "model_type": architecture})
    output = source.parent / "output"
    with contextlib.suppress(MLCError):
        convert_weight(source, "q0f16", output)
    with contextlib.suppress(MLCError):
        gen_config(source, "q0f16", "LM", output)
    if (output / "mlc-chat-config.json").is_file():
        json.loads((output / "mlc-chat-config.json").read_text(), parse_constant=pytest.fail)
    shutil.rmtree(output, ignore_errors=True)
    with contextlib.suppress(MLCError):
        load(model)


@pytest.mark.parametrize("layers", [13, MOST_LAYERS, 10**6, 10**18])
def test_layers_are_compared_with_the_tensors_before_any_is_made(
    edited: Callable[..., tuple[Path, Path]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    layers: int,
) -> None:
    def made(*_: object) -> None:
        raise AssertionError("something was made for every layer")

    tensors = 11  # of the model folder: a layer has less than that
    monkeypatch.setattr(Llama, "layer_weights", staticmethod(made))
    monkeypatch.setattr(Llama, "module", made)
    monkeypatch.setattr(Llama, "attention", made)
    source, model = edited(num_hidden_layers=layers * tensors)
    with raises("source-config-invalid", "num_hidden_layers", error=ConversionError):
        convert_weight(source, "q0f16", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with raises("model-config-invalid", "num_hidden_layers", error=ModelFolderError):
        load(model)
    with raises("model-config-invalid", "num_hidden_layers", error=ModelFolderError):
        compile_model(model, "cpu", tmp_path / "library.so")


def test_the_message_has_both_numbers(edited: Callable[..., tuple[Path, Path]]) -> None:
    source, model = edited(num_hidden_layers=100)
    with raises("source-config-invalid", "num_hidden_layers", 100, 21, error=ConversionError):
        convert_weight(source, "q0f16", source.parent / "out")
    with raises("model-config-invalid", "num_hidden_layers", 100, error=ModelFolderError):
        load(model)


@pytest.mark.parametrize("base", WRONG_BASES, ids=repr)
@pytest.mark.parametrize("place", ["rope_theta", "rope_scaling", "rope_parameters"])
def test_a_base_of_rope_that_is_not_one(
    edited: Callable[..., tuple[Path, Path]], tmp_path: Path, place: str, base: Any
) -> None:
    inside = {"rope_type": "default", "rope_theta": base}
    source, model = edited(**{place: base if place == "rope_theta" else inside})
    with raises("source-config-invalid", source, error=ConversionError) as caught:
        convert_weight(source, "q0f16", tmp_path / "out")
    assert names_base(caught.value)
    with raises("source-config-invalid", source, error=ConversionError) as caught:
        gen_config(source, "q0f16", "LM", tmp_path / "out")
    assert names_base(caught.value)
    # A model folder has the base under MLC's own name, which comes before the others.
    _, model = edited(position_embedding_base=base)
    with raises("model-config-invalid", error=ModelFolderError) as caught:
        load(model)
    assert names_base(caught.value)


def names_base(error: Exception) -> bool:
    return any(name in str(error) for name in ("theta", "position_embedding_base"))


@pytest.mark.parametrize("factor", [*NOT_FINITE, 0, -1, 1e-38, "2", True])
@pytest.mark.parametrize("kind", ["linear", "dynamic", "llama3", "yarn"])
def test_a_factor_of_rope_that_is_not_one(kind: str, factor: Any) -> None:
    limits = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling = {"rope_type": kind, "factor": factor, **limits}
    sizes = dict.fromkeys(SIZES, 64)
    length = {"original_max_position_embeddings": 64}
    with pytest.raises(ValueError, match="factor"):
        LLAMA.config({**sizes, "context_window_size": 1024, "rope_scaling": {**scaling, **length}})


def test_frequencies_stay_within_float32() -> None:
    sizes = dict.fromkeys(SIZES, 64)
    with pytest.raises(ValueError, match="beyond float32: its factors must be larger"):
        LLAMA.config({**sizes, "rope_scaling": {"rope_type": "linear", "factor": 1e-35}})


@pytest.mark.parametrize("size", [0, -1, 2**31, 1.5, "64", True, None, [], float("nan")])
@pytest.mark.parametrize("name", ["hidden_size", "num_attention_heads", "vocab_size"])
def test_a_size_that_is_not_one_is_named(name: str, size: Any) -> None:
    with pytest.raises(ValueError, match=name):
        LLAMA.config({**dict.fromkeys(SIZES, 64), name: size})


def test_a_size_may_be_written_as_a_decimal() -> None:
    assert LLAMA.config({**dict.fromkeys(SIZES, 64), "hidden_size": 128.0}).hidden_size == 128
