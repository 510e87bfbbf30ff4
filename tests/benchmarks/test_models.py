"""The random models: their sizes, and what reading a token's weights costs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks import empty_library, random_checkpoint, random_model
from benchmarks.limits import token_bytes
from benchmarks.mlc_side import MLC
from benchmarks.protocol import prompt
from benchmarks.shapes import SHAPES, ModelShape
from mlc_llm import ChatConfig, ChatModule, ConvConfig, GenerationConfig
from mlc_llm.convert.source import SourceModel
from mlc_llm.convert.weight import plan_weights
from mlc_llm.quantization import plan
from mlc_llm.weights.folder import ModelFolder

TINY = replace(
    SHAPES["smollm2-135m"], hidden=64, ffn=64, heads=1, kv_heads=1, head_dim=64, vocab=512
)

SMALLER = {"hidden": 64, "ffn": 64, "heads": 2, "kv_heads": 1, "vocab": 512}
OTHERS = {
    "qwen3": replace(SHAPES["qwen3-0.6b"], layers=2, head_dim=32, **SMALLER),
    # The sixth layer has no window. Heads have their size of 256, which the scores' scale is for.
    "gemma3_text": replace(SHAPES["gemma3-1b"], layers=6, sliding_window=16, **SMALLER),
}
"""Small models of other families than Llama's."""


@pytest.fixture(params=OTHERS)
def other(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModelShape:
    """A shape of another family, which is "other" by name."""
    monkeypatch.setitem(SHAPES, "other", OTHERS[request.param])
    return OTHERS[request.param]


def test_the_shapes_have_the_sizes_that_their_names_say() -> None:
    # The checkpoints' own counts: 1,100,048,384, 6,738,415,616 and 7,241,732,096 parameters.
    assert SHAPES["tinyllama-1.1b"].parameters == 1_100_048_384
    assert SHAPES["llama-2-7b"].parameters == 6_738_415_616
    assert SHAPES["mistral-7b-v0.1"].parameters == 7_241_732_096
    assert SHAPES["qwen3-0.6b"].parameters == 596_049_920
    assert SHAPES["gemma3-1b"].parameters == 999_885_952
    # 134,515,008, and the head that the checkpoint shares with its embedding table.
    assert SHAPES["smollm2-135m"].parameters == 134_515_008 + 49152 * 576


def test_a_token_reads_codes_scales_and_its_context(tmp_path: Path) -> None:
    """The bytes of the folder's matrices, without the embedding table."""
    folder = random_model.write_random_model(TINY, tmp_path / "model")
    tensors = ModelFolder.open(folder).manifest.tensors
    read = [
        tensor.nbytes
        for name, tensor in tensors.items()
        if ".q_" in name and "embed_tokens" not in name
    ]
    kind = plan("q4f16_1").linear
    assert token_bytes(TINY, kind, 0) == sum(read)
    per_token = token_bytes(TINY, kind, 1) - token_bytes(TINY, kind, 0)
    assert per_token == 2 * TINY.layers * TINY.kv_heads * TINY.head_dim * 2


@pytest.mark.parametrize(("quantization", "width"), [("q0f32", 4), ("q0f16", 2)])
def test_a_model_that_is_not_quantised(tmp_path: Path, quantization: str, width: int) -> None:
    folder = ModelFolder.open(
        random_model.write_random_model(TINY, tmp_path / "model", quantization)
    )
    assert sum(tensor.nbytes for tensor in folder.manifest.tensors.values()) == (
        TINY.parameters * width
    )
    assert token_bytes(TINY, plan(quantization).linear, 0) == TINY.linear_parameters * width


def test_a_gguf_file_has_the_types_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value and down projections of the outer layers and of every third between have 6 bits."""
    gguf = pytest.importorskip("gguf")
    random_gguf = pytest.importorskip("benchmarks.random_gguf")
    monkeypatch.setitem(SHAPES, "tiny", replace(TINY, hidden=256, ffn=256, heads=4, layers=8))
    file = random_gguf.write_random_gguf("tiny", tmp_path / "tiny.gguf", "q4_k_m")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    finer = {name for name, tensor in tensors.items() if tensor.tensor_type.name == "Q6_K"}
    layers = (0, 3, 6, 7)
    projections = ("attn_v", "ffn_down")
    assert finer == {"output.weight"} | {
        f"blk.{layer}.{name}.weight" for layer in layers for name in projections
    }
    weight = tensors["blk.0.ffn_down.weight"]
    values = gguf.dequantize(weight.data, weight.tensor_type)
    assert 0.005 < values.std() < 0.1


def test_a_sliding_window_is_in_both_configurations() -> None:
    shape = SHAPES["mistral-7b-v0.1"]
    ours = random_model.chat_config(shape, "q4f16_1")
    assert (ours["model_type"], ours["sliding_window_size"]) == ("mistral", 4096)
    theirs = random_checkpoint.hf_config(shape)
    assert (theirs["architectures"], theirs["sliding_window"]) == (["MistralForCausalLM"], 4096)
    assert "sliding_window" not in random_checkpoint.hf_config(SHAPES["llama-2-7b"])


def test_a_checkpoint_is_complete(tmp_path: Path) -> None:
    folder = random_checkpoint.write_random_checkpoint(TINY, tmp_path / "checkpoint")
    index = json.loads((folder / random_checkpoint.INDEX_FILE).read_text())
    tensors = {
        name: tensor
        for file in sorted(set(index["weight_map"].values()))
        for name, tensor in load_file(folder / file).items()
    }
    assert tensors.keys() == index["weight_map"].keys()
    assert sum(tensor.size for tensor in tensors.values()) == TINY.parameters
    assert index["metadata"]["total_size"] == 2 * TINY.parameters
    head = tensors["lm_head.weight"].astype(np.float32)
    assert head.std() == pytest.approx(random_checkpoint.WEIGHT_STD, rel=0.05)
    assert abs(head.mean()) < 0.1 * random_checkpoint.WEIGHT_STD
    assert {file.name for file in folder.glob("*.json")} >= {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }


@pytest.mark.parametrize("name", ["llama-2-7b", "mistral-7b-v0.1", "qwen3-0.6b", "gemma3-1b"])
def test_a_checkpoint_has_the_tensors_of_transformers(name: str) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    shape = SHAPES[name]
    config = transformers.AutoConfig.for_model(**random_checkpoint.hf_config(shape))
    assert config.architectures == [transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].__name__]
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    wanted = {name: tuple(values.shape) for name, values in model.named_parameters()}
    written = [tensor for shard in random_checkpoint.shards(shape) for tensor in shard]
    assert dict(written) == wanted
    assert len(written) == len(wanted)


def test_a_gguf_file_and_a_checkpoint_are_the_same_model(tmp_path: Path, other: ModelShape) -> None:
    pytest.importorskip("gguf")
    random_gguf = pytest.importorskip("benchmarks.random_gguf")
    file = random_gguf.write_random_gguf("other", tmp_path / "other.gguf")
    checkpoint = random_checkpoint.write_random_checkpoint(other, tmp_path / "checkpoint")
    models = [SourceModel.open(file), SourceModel.open(checkpoint)]
    assert models[0].config == models[1].config
    # A tensor that is missing or not known is an error.
    weights = [plan_weights(model, plan("q4f16_1")) for model in models]
    assert [weight.shape for weight in weights[0]] == [weight.shape for weight in weights[1]]


@pytest.mark.slow
def test_a_model_of_another_family_answers(tmp_path: Path, other: ModelShape) -> None:
    """Prompts are as long as they say, and nothing ends an answer."""
    folder = random_model.write_random_model(other, tmp_path / "model")
    assert ModelFolder.open(folder).config.eos_token_ids == ()
    side = MLC(folder, context=64, threads=1, opt="")
    with side.chat:
        assert side.prefill(prompt(40)) > 0
        assert side.decode(prompt(20), 30) > 0


def test_a_library_without_kernels_still_makes_every_call(tmp_path: Path) -> None:
    folder = random_model.write_random_model(TINY, tmp_path / "model")
    empty_library.compile_empty_library(folder, tmp_path / "empty.so")
    settings = ChatConfig(conv_template="LM", temperature=0.0, context_window_size=64)
    endless = GenerationConfig(max_gen_len=12)
    with ChatModule(str(folder), "cpu", settings, str(tmp_path / "empty.so")) as chat:
        chat.reset_chat(ConvConfig(stop_token_ids=[]))
        chat.generate("Hello", endless)
        assert len(chat.results[0].token_ids) == 12
        assert chat.metrics.decode.tokens == 11
