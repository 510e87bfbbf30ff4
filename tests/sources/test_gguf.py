"""GGUF files as sources: names, orders of rows, config; and their conversion without loss."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from mlc_llm.convert import Sizes, convert_source, convert_weight, gen_config
from mlc_llm.errors import ConversionError
from mlc_llm.model.llama import LLAMA
from mlc_llm.plugin.scheme import Plan, Scheme
from mlc_llm.quantization import folder_plan
from mlc_llm.quantization.packing import dequantize
from mlc_llm.sources import open_source
from mlc_llm.testing import raises
from mlc_llm.tokenizer import load_tokenizer
from mlc_llm.weights.folder import ModelFolder

from .gguf_files import (
    HALVES,
    HEADS,
    HIDDEN,
    VOCABULARY,
    Array,
    llama_metadata,
    llama_tensors,
    llama_values,
    random_matrix,
    write_file,
    write_llama,
)

MIXED = {
    "attn_v": "Q6_K",
    "blk.1.ffn_down": "Q6_K",
    "blk.1.attn_k": "Q8_0",
    "token_embd": "Q5_1",
    "attn_output": "Q4_K",
    "output.": "Q6_K",
    "": "Q4_K",
}
"""As in a file of Q4_K_M."""


def joined(values: dict[str, Array]) -> dict[str, Array]:
    """Weights by the names of a model folder."""
    out = {}
    parts = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
    for name in list(values):
        for whole, names in parts.items():
            if f".{names[0]}." in name:
                sources = [values.pop(name.replace(names[0], one)) for one in names]
                out[name.replace(names[0], whole)] = np.concatenate(sources)
    return {**values, **out}


def stored_values(folder: ModelFolder, name: str, rows: int) -> Array:
    """The values of a matrix in a model folder, in which parts may differ."""
    plan = folder_plan(folder.config)
    schemes = plan.schemes(name, embedding="embed_tokens" in name)
    stem, columns = name.removesuffix(".weight"), None
    stems = [stem] if len(schemes) == 1 else [f"{stem}.{i}" for i in range(len(schemes))]
    order = ("weight", "q_weight", "q_high", "q_scale", "q_super", "q_min", "q_super_min")
    found = []
    for one, scheme in zip(stems, schemes, strict=True):
        names = [f"{one}.{part}" for part in order if f"{one}.{part}" in folder.manifest.tensors]
        tensors = [folder.read(tensor) for tensor in names]
        columns = tensors[0].shape[1] * (1 if scheme.is_float else scheme.codes_per_word)
        found.append(dequantize(tensors, columns, scheme))
    values = np.concatenate(found)
    assert len(values) == rows
    return values


def assert_same_values(path: Path, tensors: dict[str, tuple[str, Array]]) -> ModelFolder:
    """Check that a model folder has the values of a file, all of them exactly."""
    folder = ModelFolder.open(path)
    folder.verify()
    for name, values in joined(llama_values(tensors)).items():
        if values.ndim == 1:
            np.testing.assert_array_equal(folder.read(name), values.astype(np.float16))
        else:
            found = stored_values(folder, name, len(values))
            np.testing.assert_array_equal(found, values, err_msg=name)
    return folder


def test_tensors_have_the_checkpoints_names_and_rows(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "model.gguf", MIXED)
    tensors, expected = open_source(path).tensors(), llama_values(llama_tensors(MIXED))
    assert set(tensors) == set(expected)
    for name, values in expected.items():
        assert tensors[name].shape == values.shape
        np.testing.assert_array_equal(tensors[name].read(), values, err_msg=name)


@pytest.mark.parametrize("kind", [*HALVES, "F16", "F32"])
def test_each_type_is_converted_without_loss(tmp_path: Path, kind: str) -> None:
    path = write_llama(tmp_path / "model.gguf", kind, layers=1, tied=True)
    out = convert_source(path, tmp_path / "out")
    folder = assert_same_values(out, llama_tensors(kind, layers=1, tied=True))
    assert folder.config.quantization == kind.lower()
    plan = folder_plan(folder.config)
    assert plan.exceptions == {}
    assert plan.linear == plan.embedding
    if kind == "MXFP4":
        assert plan.linear == Scheme(5, "float16", 32, zero=12)


def test_bfloat16_becomes_float16(tmp_path: Path) -> None:
    """It has more digits; only numbers below its normal ones lose some."""
    path = write_llama(tmp_path / "model.gguf", "BF16", layers=1)
    folder = ModelFolder.open(convert_source(path, tmp_path / "out"))
    for name, values in joined(llama_values(llama_tensors("BF16", layers=1))).items():
        found = folder.read(name).astype(np.float32)
        np.testing.assert_allclose(found, values, rtol=0, atol=2.0**-25, err_msg=name)


def test_mixed_types_are_exceptions_of_a_plan(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "model.gguf", MIXED)
    folder = assert_same_values(convert_source(path, tmp_path / "out"), llama_tensors(MIXED))
    plan = folder_plan(folder.config)
    q4_k = Scheme(4, "float16", 32, super_group=256)
    q6_k = Scheme(6, "float16", 16, zero=32, super_group=256)
    q8_0 = Scheme(8, "float16", 32, zero=128)
    assert plan == Plan(
        name="q4_k",
        dtype="float16",
        linear=q4_k,
        embedding=Scheme(5, "float16", 32),
        exceptions={
            "model.layers.0.self_attn.qkv_proj.weight": (q4_k, q4_k, q6_k),
            "model.layers.1.self_attn.qkv_proj.weight": (q4_k, q8_0, q6_k),
            "model.layers.1.mlp.down_proj.weight": (q6_k,),
            "lm_head.weight": (q6_k,),
        },
    )


def test_a_complete_folder(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "model.gguf", "Q4_0", general__sampling__temp=0.25)
    out = convert_source(path, tmp_path / "out", sizes=Sizes(context_window_size=64))
    data = json.loads((out / "mlc-chat-config.json").read_text())
    wanted = {
        "model_type": "llama",
        "quantization": "q4_0",
        "vocab_size": VOCABULARY,
        "context_window_size": 64,
        "temperature": 0.25,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    assert "conv_template" not in data
    assert {name: data[name] for name in wanted} == wanted
    assert "conv_template" not in data
    assert (out / "chat_template.jinja").read_text() == "{{ messages[0]['content'] }}"
    assert set(data["tokenizer_files"]) <= {one.name for one in out.iterdir()}
    assert load_tokenizer(out).bos_id == 1


def test_the_commands_make_the_same_folder(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "model.gguf", MIXED)
    whole = convert_source(path, tmp_path / "whole")
    convert_weight(path, None, tmp_path / "parts")
    gen_config(path, None, None, tmp_path / "parts")
    contents = [
        {file.name: file.read_bytes() for file in folder.iterdir()}
        for folder in (whole, tmp_path / "parts")
    ]
    assert contents[0] == contents[1]


def test_the_command_line(tmp_path: Path) -> None:
    """It needs neither a quantisation nor a template: the file has both."""
    path, out = write_llama(tmp_path / "model.gguf", "Q8_0"), tmp_path / "out"
    for command, said in [("convert_weight", out), ("gen_config", out / "mlc-chat-config.json")]:
        arguments = [sys.executable, "-W", "error", "-m", "mlc_llm", command, path, "-o", out]
        result = subprocess.run(arguments, capture_output=True, text=True)
        assert (result.returncode, result.stdout, result.stderr) == (0, f"{said}\n", "")
    assert ModelFolder.open(out).config.quantization == "q8_0"


def test_another_quantization_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_llama(tmp_path / "model.gguf", MIXED)
    with caplog.at_level(logging.WARNING, "mlc_llm"):
        convert_source(path, tmp_path / "kept")
        assert not caplog.records
        convert_source(path, tmp_path / "out", quantization="q4f16_1")
    [record] = caplog.records
    assert all(word in record.getMessage() for word in ("Q4_K", "Q6_K", "q4f16_1"))
    assert ModelFolder.open(tmp_path / "out").config.quantization == "q4f16_1"


def test_types_that_grow_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_llama(tmp_path / "model.gguf", {"ffn": "IQ4_NL", "": "IQ4_XS"})
    with caplog.at_level(logging.WARNING, "mlc_llm"):
        out = convert_source(path, tmp_path / "out")
    [record] = caplog.records
    assert all(word in record.getMessage() for word in ("IQ4_NL", "IQ4_XS", "twice"))
    assert_same_values(out, llama_tensors({"ffn": "IQ4_NL", "": "IQ4_XS"}))


def config_of(
    tmp_path: Path, tensors: dict[str, tuple[str, Array]] | None = None, **more: Any
) -> Any:
    """The config of a small Llama with other settings, with ``__`` for dots, and tensors."""
    settings = {key.replace("__", "."): value for key, value in more.items()}
    metadata = {k: v for k, v in (llama_metadata(1) | settings).items() if v is not None}
    path = tmp_path / "model.gguf"
    write_file(path, llama_tensors("Q4_0", 1) | (tensors or {}), metadata)
    return open_source(path).config


def test_config(tmp_path: Path) -> None:
    assert config_of(tmp_path, llama__attention__key_length=32) == {
        "model_type": "llama",
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 1,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "vocab_size": 300,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def test_several_tokens_that_end_an_answer(tmp_path: Path) -> None:
    ids = {"tokenizer__ggml__eot_token_id": 7, "tokenizer__ggml__eom_token_id": 2}
    assert config_of(tmp_path, **ids)["eos_token_id"] == [2, 7]


def test_the_same_number_for_each_layer(tmp_path: Path) -> None:
    assert config_of(tmp_path, llama__feed_forward_length=[512, 512])["intermediate_size"] == 512


def divisors(values: Array) -> dict[str, tuple[str, Array]]:
    return {"rope_freqs.weight": ("F32", values.astype(np.float32))}


def test_rope_of_llama_3(tmp_path: Path, torch: Any, transformers: Any) -> None:
    """The divisors are llama.cpp's: what transformers divides the frequencies by."""
    scaling = {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    sizes = {"hidden_size": HIDDEN, "num_attention_heads": HEADS}
    config = transformers.LlamaConfig(
        **sizes, rope_parameters={**scaling, "rope_theta": 500000.0}, max_position_embeddings=131072
    )
    rotary = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding
    scaled = rotary(config).inv_freq
    config.rope_parameters = {"rope_type": "default", "rope_theta": 500000.0}
    plain = rotary(config).inv_freq
    found = config_of(
        tmp_path,
        divisors((plain / scaled).numpy()),
        llama__rope__freq_base=500000.0,
        llama__context_length=131072,
    )
    assert found["rope_scaling"] == scaling


def test_rope_of_other_divisors(tmp_path: Path) -> None:
    values = np.linspace(1, 3, HIDDEN // HEADS // 2)
    config = LLAMA.config(config_of(tmp_path, divisors(values)))
    plain = LLAMA.config(config_of(tmp_path)).rope()
    found = config.rope()
    np.testing.assert_allclose(found.frequencies, plain.frequencies / values, rtol=1e-6)
    assert found.factor == 1


@pytest.mark.parametrize(
    ("settings", "scaling"),
    [
        ({"type": "none"}, None),
        ({"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        ({"factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        ({"type": "linear", "factor": 1.0}, None),
        (
            {"type": "yarn", "factor": 4.0, "original_context_length": 64, "yarn_beta_fast": 16.0},
            {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 64,
                "beta_fast": 16.0,
            },
        ),
    ],
)
def test_rope_scaling(tmp_path: Path, settings: dict[str, Any], scaling: Any) -> None:
    named = {f"llama.rope.scaling.{key}": value for key, value in settings.items()}
    assert config_of(tmp_path, **named).get("rope_scaling") == scaling


BAD_SETTINGS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no size": ({"llama.embedding_length": None}, ("hidden_size",)),
    "a text for a size": ({"llama.embedding_length": "wide"}, ("hidden_size",)),
    "layers that differ": (
        {"llama.feed_forward_length": [512, 256]},
        ("llama.feed_forward_length", "512"),
    ),
    "an unknown RoPE": ({"llama.rope.scaling.type": "spiral"}, ("'spiral'",)),
    "RoPE of half a head": ({"llama.rope.dimension_count": 16}, ("partial_rotary_factor",)),
    "a negative base": ({"llama.rope.freq_base": -1.0}, ("theta", "-1.0")),
    "a base that is no number": ({"llama.rope.freq_base": float("nan")}, ()),
    "heads of another size": ({"llama.attention.head_count": 0}, ("num_attention_heads",)),
}


@pytest.mark.parametrize(("settings", "named"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_settings_that_cannot_be(
    tmp_path: Path, settings: dict[str, Any], named: tuple[str, ...]
) -> None:
    with raises("source-config-invalid", tmp_path / "model.gguf", *named, error=ConversionError):
        config_of(tmp_path, **settings)


def test_an_unknown_family(tmp_path: Path) -> None:
    path = write_file(tmp_path / "model.gguf", {}, {}, architecture="lama")
    with raises("architecture-unknown", path, "'lama'", "'llama'", error=ConversionError):
        open_source(path)


def test_a_family_whose_plugin_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlc_llm.registry.registry import Registry

    path = write_llama(tmp_path / "model.gguf", "Q4_0")
    registry = Registry([], allowed=[])
    with raises("source-unknown", path, error=ConversionError):
        open_source(path, registry=registry)


@pytest.fixture
def refuse(tmp_path: Path) -> Any:
    """Check that a model with other tensors is refused, and that nothing is left behind."""

    def check(
        change: dict[str, tuple[str, Array] | None], code: str, *named: object, **more: Any
    ) -> None:
        tensors = llama_tensors("Q4_0", 1) | change
        kept = {name: one for name, one in tensors.items() if one is not None}
        path = write_file(tmp_path / "model.gguf", kept, llama_metadata(1, **more))
        with raises(code, path, *named, error=ConversionError):
            convert_source(path, tmp_path / "out")
        assert {one.name for one in tmp_path.iterdir()} <= {"model.gguf", ".out.lock"}

    return check


def test_a_missing_tensor(refuse: Any) -> None:
    refuse({"blk.0.ffn_up.weight": None}, "tensor-missing", "model.layers.0.mlp.up_proj.weight")


@pytest.mark.parametrize("name", ["blk.0.ffn_gate_inp.weight", "extra", "blk.x.attn_q.weight"])
def test_an_unknown_tensor(refuse: Any, name: str) -> None:
    refuse({name: ("Q4_0", random_matrix("Q4_0", 8, 256))}, "tensor-unknown", name)


def test_a_tensor_of_another_layer(refuse: Any) -> None:
    extra = ("Q4_0", random_matrix("Q4_0", 256, 256))
    refuse({"blk.1.attn_q.weight": extra}, "tensor-unknown", "model.layers.1.self_attn.q_proj")


@pytest.mark.parametrize("rows", [128, 512])
def test_a_wrong_shape(refuse: Any, rows: int) -> None:
    change = {"blk.0.attn_q.weight": ("Q4_0", random_matrix("Q4_0", rows, 256))}
    refuse(change, "shape-mismatch", "self_attn.q_proj", rows)


def test_a_type_that_is_not_read(refuse: Any) -> None:
    change = {"blk.0.ffn_down.weight": ("Q2_K", np.zeros((256, 168), np.uint8))}
    refuse(change, "dtype-unsupported", "blk.0.ffn_down.weight", "Q2_K")


def test_a_scale_that_is_no_number(refuse: Any) -> None:
    stored = random_matrix("Q4_0", 256, 512)
    stored[100, :2] = np.array([np.nan], "<f2").view(np.uint8)
    refuse({"blk.0.ffn_down.weight": ("Q4_0", stored)}, "weight-not-finite", "blk.0.ffn_down")


def test_divisors_of_another_shape(refuse: Any) -> None:
    change = {"rope_freqs.weight": ("F32", np.ones((2, 16), np.float32))}
    refuse(change, "shape-mismatch", "rope_freqs.weight")


def test_more_layers_than_tensors(refuse: Any) -> None:
    refuse({}, "source-config-invalid", "num_hidden_layers", **{"llama.block_count": 9999})


def test_biases_are_ordered_too(tmp_path: Path) -> None:
    biases = {
        f"blk.0.{name}.bias": ("F32", np.arange(rows, dtype=np.float32))
        for name, rows in [("attn_q", 256), ("attn_k", 128), ("attn_v", 128), ("attn_output", 256)]
    }
    path = tmp_path / "model.gguf"
    write_file(path, llama_tensors("Q4_0", 1) | biases, llama_metadata(1))
    source = open_source(path)
    assert source.config["attention_bias"]
    expected = llama_values({"blk.0.attn_q.weight": ("F32", np.arange(256.0)[:, None])})
    [weight] = expected.values()
    found = source.tensors()["model.layers.0.self_attn.q_proj.bias"].read()
    np.testing.assert_array_equal(found, weight[:, 0])
    folder = ModelFolder.open(convert_source(path, tmp_path / "out"))
    np.testing.assert_array_equal(
        folder.read("model.layers.0.self_attn.qkv_proj.bias")[:256], weight[:, 0]
    )


def test_a_folder_with_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    path = write_llama(folder / "model.gguf", "Q8_0")
    assert open_source(folder).path == path
    write_llama(folder / "other.gguf", "Q8_0")
    with raises("source-ambiguous", folder, "model.gguf", "other.gguf", error=ConversionError):
        open_source(folder)


def test_a_file_without_the_ending(tmp_path: Path) -> None:
    """As ollama has them."""
    path = write_llama(tmp_path / "sha256-0123", "Q8_0")
    assert open_source(path).config["model_type"] == "llama"


def test_a_file_of_another_format(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"PK\3\4")
    with raises("source-unknown", tmp_path / "model.bin", "GGUF", error=ConversionError):
        open_source(tmp_path / "model.bin")


def test_the_package_agrees_on_the_names() -> None:
    """The names in a file are those that llama.cpp has for the family."""
    theirs = {
        gguf.TENSOR_NAMES[tensor].replace("{bid}", "*")
        for tensor in gguf.MODEL_TENSORS[gguf.MODEL_ARCH.LLAMA]
    }
    assert LLAMA.gguf is not None
    ours = {*LLAMA.gguf.tensors, *LLAMA.gguf.ignored, "rope_freqs"}
    experts = {name for name in theirs if "exp" in name or name.endswith("gate_inp")}
    assert ours == theirs - experts
