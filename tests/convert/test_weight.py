"""Converted weights against independent references, and checkpoints that cannot be converted."""

import json
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy

from mlc_llm.convert import convert_weight, gen_config
from mlc_llm.convert.plan import make_plan
from mlc_llm.errors import ConversionError
from mlc_llm.model.finer_weights import FINER
from mlc_llm.model.llama import LLAMA
from mlc_llm.plugin.scheme import stored_tensors
from mlc_llm.quantization import PLANS, folder_plan, plan
from mlc_llm.quantization.packing import dequantize
from mlc_llm.sources.safetensors_file import FileTensor
from mlc_llm.testing import raises
from mlc_llm.weights.folder import ModelFolder, read_manifest
from mlc_llm.weights.shards import Shards


def merged(tensors, layers):
    """A Llama's tensors under the names of MLC's layout, by the layout's definition."""
    out = {}
    for layer in (f"model.layers.{index}" for index in range(layers)):
        attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
        parts = [tensors.pop(f"{attention}.{part}_proj.weight") for part in "qkv"]
        out[f"{attention}.qkv_proj.weight"] = np.concatenate(parts)
        parts = [tensors.pop(f"{mlp}.{part}_proj.weight") for part in ("gate", "up")]
        out[f"{mlp}.gate_up_proj.weight"] = np.concatenate(parts)
    return {**out, **tensors}


def quantized(w, scheme):
    """What a matrix is stored in by the layout's definition, as whole arrays."""
    rows, columns = w.shape
    group, per_word = scheme.group, 32 // scheme.bits
    padding = ((0, 0), (0, -columns % group))
    groups = np.pad(w, padding, mode="edge").reshape(rows, -1, group)
    tiny = np.finfo(scheme.dtype).smallest_normal
    if scheme.zero is None:
        most = 2**scheme.bits - 1
        minimum = groups.min(-1).astype(scheme.dtype)
        low = minimum.astype(np.float32)
        scale = ((groups.max(-1) - low).clip(0) / np.float32(most)).astype(scheme.dtype)
        scale = np.where(scale == 0, tiny, scale)
        codes = np.round((groups - low[..., None]) / scale[..., None].astype(np.float32))
        codes, others = codes.clip(0, most), [scale, minimum]
    else:
        # MLC's own schemes are computed in the dtype of their scales.
        kind = np.dtype(scheme.dtype if scheme.bits in (3, 4) else "float32").type
        groups = groups.astype(kind)
        scale = (np.abs(groups).max(-1) / kind(scheme.zero)).astype(scheme.dtype)
        scale = np.where(scale == 0, tiny, scale)
        codes = np.round(groups / scale[..., None].astype(kind) + kind(scheme.zero))
        codes, others = codes.clip(0, 2 * scheme.zero), [scale]
    codes = codes.astype(int).reshape(rows, -1)
    codes[:, columns:] = 0
    digits = codes.reshape(rows, -1, per_word) * (2**scheme.bits) ** np.arange(per_word)
    stored = [digits.sum(-1).astype(np.uint32), *others]
    return [tensor.T for tensor in stored] if scheme.layout == "columns" else stored


def expected(tensors, layers, name):
    """What converting a checkpoint of those tensors must give, by name."""
    chosen = plan(name)
    out = {}
    for key, w in merged(dict(tensors), layers).items():
        scheme = chosen.embedding if "embed_tokens" in key else chosen.linear
        if w.ndim == 1 or scheme.is_float:
            out[key] = w.astype(chosen.dtype)
        else:
            names = (f"{key.removesuffix('weight')}q_{part}" for part in ("weight", "scale", "min"))
            out |= dict(zip(names, quantized(w, scheme), strict=False))
    return out


def assert_holds(folder, wanted):
    assert set(folder.manifest.tensors) == set(wanted)
    for name, array in wanted.items():
        read = folder.read(name)
        assert (read.shape, read.dtype) == (array.shape, array.dtype), name
        np.testing.assert_array_equal(read, array, err_msg=name)


@pytest.mark.parametrize("quantization", sorted(PLANS.keys() - {FINER}))
@pytest.mark.parametrize("model", ["stories260k", "babyllama"])
def test_trained_models(request, tmp_path, model, quantization, capsys):
    source = request.getfixturevalue(model)
    output = tmp_path / "models" / "converted"
    assert convert_weight(source, quantization, str(output), progress=True) == output
    gen_config(source, quantization, "LM", output)
    folder = ModelFolder.open(output)
    folder.verify()
    tensors = safetensors.numpy.load_file(source / "model.safetensors")
    assert_holds(folder, expected(tensors, 5, quantization))
    metadata = folder.manifest.metadata
    assert metadata["ParamBytes"] == folder.total_bytes
    assert metadata["ParamSize"] == len(folder.manifest.tensors)
    count = sum(tensor.size for tensor in tensors.values())
    assert metadata["BitsPerParam"] == pytest.approx(8 * folder.total_bytes / count)
    assert capsys.readouterr() == ("", "")


def test_finer_weights_are_nearer(stories260k, tmp_path):
    """The default's weights, which are found by least squares, beside the checkpoint's."""
    folder = ModelFolder.open(convert_weight_and_config(stories260k, FINER, tmp_path / "out"))
    chosen = folder_plan(folder.config)
    tensors = safetensors.numpy.load_file(stories260k / "model.safetensors")
    for name, w in merged(tensors, 5).items():
        if w.ndim != 2:
            continue
        schemes = chosen.schemes(name, embedding="embed_tokens" in name)
        rows = [64, 32, 32] if len(schemes) > 1 else [len(w)]
        parts = np.split(w, np.cumsum(rows)[:-1])
        for index, (part, scheme) in enumerate(zip(parts, schemes, strict=True)):
            stem = name.removesuffix("weight") + (f"{index}." if len(parts) > 1 else "")
            stored = [tensor.name for tensor in stored_tensors(f"{stem}weight", ((1, scheme),), 1)]
            values = dequantize([folder.read(one) for one in stored], w.shape[1], scheme)
            error = np.sqrt(np.square(values - part).sum() / np.square(part).sum())
            assert error < {4: 0.09, 5: 0.045, 8: 0.008}[scheme.bits], stem
    assert {scheme.bits for scheme in chosen.all_schemes()} == {4, 5, 8}


def convert_weight_and_config(source, quantization, output):
    convert_weight(source, quantization, output)
    gen_config(source, quantization, "LM", output)
    return output


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("quantization", ["q0f32", "q3f16_1", "q4f16_1", "q4f16_0", "q4f16_m"])
def test_dtypes_shards_and_untied_heads(
    make_checkpoint, transformers, torch, tmp_path, dtype, quantization
):
    source = make_checkpoint("mistral", dtype=dtype, max_shard_size="100KB")
    model = transformers.MistralForCausalLM.from_pretrained(source, dtype=torch.float32)
    tensors = {name: value.numpy() for name, value in model.state_dict().items()}
    assert "lm_head.weight" in tensors
    convert_weight(source, quantization, tmp_path / "out")
    gen_config(source, quantization, "LM", tmp_path / "out")
    assert_holds(ModelFolder.open(tmp_path / "out"), expected(tensors, 2, quantization))


def test_a_tied_head_in_the_checkpoint_is_ignored(checkpoint, tmp_path):
    checkpoint.config["tie_word_embeddings"] = True
    checkpoint.tensors["lm_head.weight"] = checkpoint.tensors["model.embed_tokens.weight"].copy()
    checkpoint.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)
    convert_weight(checkpoint.save(), "q0f32", tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "tensor-cache.json").read_text())
    names = [record["name"] for shard in manifest["records"] for record in shard["records"]]
    assert "lm_head.weight" not in names
    assert len(names) == 8


@pytest.mark.parametrize("change", ["value", "shape"])
def test_a_head_that_is_not_tied_after_all(refuse, checkpoint, change):
    checkpoint.config["tie_word_embeddings"] = True
    copy = checkpoint.tensors["model.embed_tokens.weight"].copy()
    copy[-1, -1] += 1
    checkpoint.tensors["lm_head.weight"] = copy if change == "value" else copy[:-1]
    names = ("lm_head.weight", "model.embed_tokens.weight", "tie_word_embeddings")
    refuse("head-not-tied", *names)


def test_llama_2_7b_has_the_names_and_shapes_of_mlc(test_data):
    """The official library's parameters, by the weight map alone, without any weights."""
    path = test_data / "mlc" / "libraries" / "Llama-2-7b-chat-hf-q4f16_1.metadata.json"
    config = LLAMA.config(
        {
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "vocab_size": 32000,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
        }
    )
    square, up, down = (4096, 4096), (11008, 4096), (4096, 11008)
    shapes = {"model.embed_tokens": (32000, 4096), "lm_head": (32000, 4096), "model.norm": (4096,)}
    for layer in (f"model.layers.{index}" for index in range(32)):
        shapes |= {f"{layer}.self_attn.{part}_proj": square for part in "qkvo"}
        shapes |= {f"{layer}.mlp.{part}_proj": up for part in ("gate", "up")}
        shapes[f"{layer}.mlp.down_proj"] = down
        shapes |= {f"{layer}.{norm}_layernorm": (4096,) for norm in ("input", "post_attention")}
    checkpoint = {
        f"{name}.weight": FileTensor(f"{name}.weight", shape, "F16", path, 0, 0)
        for name, shape in shapes.items()
    }
    ours = [
        (tensor.name, list(tensor.shape), tensor.dtype)
        for planned in make_plan(checkpoint, LLAMA, config, plan("q4f16_1"))
        for tensor in planned.tensors
    ]
    theirs = [
        (p["name"], [32000 if size == "vocab_size" else size for size in p["shape"]], p["dtype"])
        for p in json.loads(path.read_text())["params"]
    ]
    assert ours == theirs


def test_memory_stays_small(checkpoint, tmp_path):
    """A table of 48 MB is converted in blocks, whatever becomes of it."""
    convert_weight(checkpoint.folder, "q4f16_1", tmp_path / "q4f16_1")  # what imports take
    rows = 375_000
    checkpoint.config |= {"vocab_size": rows, "tie_word_embeddings": True}
    del checkpoint.tensors["lm_head.weight"]
    checkpoint.tensors["model.embed_tokens.weight"] = np.full((rows, 32), 0.5, np.float32)
    checkpoint.save()
    for quantization in ("q0f32", "q0f16", "q4f16_1"):
        tracemalloc.start()
        convert_weight(checkpoint.folder, quantization, tmp_path / quantization)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 24 << 20
    shards = Shards(tmp_path / "q4f16_1", manifest := read_manifest(tmp_path / "q4f16_1"))
    parts = [manifest.tensors[f"model.embed_tokens.{part}"] for part in ("q_weight", "q_scale")]
    values = dequantize([shards.read(part) for part in parts], 32, plan("q4f16_1").linear)
    np.testing.assert_allclose(values, 0.5, rtol=1e-3)


def test_a_large_tensor_has_a_shard_of_its_own(checkpoint, tmp_path):
    checkpoint.config |= {"vocab_size": 300_000, "tie_word_embeddings": True}
    del checkpoint.tensors["lm_head.weight"]
    checkpoint.tensors["model.embed_tokens.weight"] = np.zeros((300_000, 32), np.float32)
    convert_weight(checkpoint.save(), "q0f32", tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert [len(shard.tensors) for shard in manifest.shards] == [1, 7]
    assert manifest.shards[0].nbytes == 300_000 * 32 * 4


@pytest.fixture
def refuse(checkpoint, tmp_path):
    """Check that converting the changed checkpoint fails and leaves nothing behind."""

    def check(code, *parts, quantization="q4f16_1"):
        with raises(code, *parts, error=ConversionError):
            convert_weight(checkpoint.save(), quantization, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    return check


K_PROJ = "model.layers.0.self_attn.k_proj.weight"


def test_missing_tensors(refuse, checkpoint):
    del checkpoint.tensors[K_PROJ], checkpoint.tensors["lm_head.weight"]
    refuse("tensor-missing", checkpoint.folder, f"{K_PROJ}, lm_head.weight", "'llama'")


def test_many_missing_tensors(refuse, checkpoint):
    checkpoint.config["num_hidden_layers"] = 3
    refuse("tensor-missing", "model.layers.1.self_attn.q_proj.weight", 13)


def test_tensors_left_over(refuse, checkpoint):
    checkpoint.tensors["model.layers.0.self_attn.q_proj.bias"] = np.zeros(32, np.float32)
    refuse("tensor-unknown", "model.layers.0.self_attn.q_proj.bias", "'llama'")


def test_wrong_shape(refuse, checkpoint):
    checkpoint.config["intermediate_size"] = 48
    parts = ("gate_proj.weight (44, 32)", "up_proj.weight (44, 32)")
    refuse("shape-mismatch", "gate_up_proj.weight", "(96, 32)", "(88, 32)", *parts)


def test_a_vocabulary_of_another_size(refuse, checkpoint):
    checkpoint.config["vocab_size"] = 512
    refuse("shape-mismatch", "embed_tokens.weight", "(512, 32)", "(300, 32)")


@pytest.mark.parametrize("shape", [(16, 31), (512,), ()])
def test_parts_that_do_not_fit_together(refuse, checkpoint, shape):
    checkpoint.tensors[K_PROJ] = np.zeros(shape, np.float32)
    refuse("shape-mismatch", "qkv_proj.weight", K_PROJ, str(shape))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("quantization", ["q0f16", "q0f32", "q4f16_1", "q4f16_0"])
def test_not_finite(refuse, checkpoint, bad, quantization):
    checkpoint.tensors[K_PROJ][3, 5] = bad
    refuse("weight-not-finite", K_PROJ, "model.safetensors", quantization=quantization)


def test_too_large_for_float16(refuse, checkpoint, tmp_path):
    checkpoint.tensors[K_PROJ][3, 5] = 1e6
    refuse("weight-too-large", K_PROJ, "float16", "1e+06", quantization="q0f16")
    refuse("weight-too-large", K_PROJ, "4 bits", "float16", "float32", quantization="q4f16_1")
    convert_weight(checkpoint.folder, "q4f32_1", tmp_path / "out")


def test_an_integer_tensor(refuse, checkpoint):
    checkpoint.tensors[K_PROJ] = np.zeros((16, 32), np.int64)
    refuse("dtype-unsupported", K_PROJ, "I64")
