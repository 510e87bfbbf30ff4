"""What is wrong with a source model, and says so."""

import json

import numpy as np
import pytest

from mlc_llm.convert import convert_weight
from mlc_llm.convert.source import SourceModel
from mlc_llm.errors import ConversionError, ModelNotFoundError, PluginError, QuantizationError
from mlc_llm.model.llama import LlamaConfig
from mlc_llm.testing import raises

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1234\n"


@pytest.fixture
def refuse(tmp_path):
    """Check that converting fails with that code and those values and leaves nothing behind."""

    def check(folder, code, *parts, error=ConversionError, quantization="q4f16_1"):
        output = tmp_path / "deep" / "output"
        with raises(code, *parts, error=error):
            convert_weight(folder, quantization, output)
        assert not output.parent.exists()

    return check


def test_no_folder(refuse, tmp_path):
    refuse(tmp_path / "none", "model-not-found", tmp_path / "none", error=ModelNotFoundError)


def test_no_config(refuse, checkpoint):
    (checkpoint.folder / "config.json").unlink()
    refuse(checkpoint.folder, "source-config-missing", "config.json")


def test_a_folder_in_mlc_format(refuse, checkpoint):
    (checkpoint.folder / "config.json").rename(checkpoint.folder / "mlc-chat-config.json")
    refuse(checkpoint.folder, "source-config-missing", "mlc-chat-config.json")


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("", "file-empty", "config.json"),
        ('{"model_type": ', "json-malformed", "config.json"),
        ("[]", "json-malformed", "list"),
        ("{}", "source-config-invalid", "model_type"),
        ('{"model_type": 3}', "source-config-invalid", "model_type"),
        (
            '{"model_type": "llama"}',
            "source-config-invalid",
            "hidden_size",
        ),
        (LFS_POINTER, "lfs-pointer", "git lfs pull"),
    ],
)
def test_malformed_config(refuse, checkpoint, text, code, named):
    (checkpoint.folder / "config.json").write_text(text)
    refuse(checkpoint.folder, code, named)


def test_a_value_that_the_architecture_refuses(refuse, checkpoint):
    checkpoint.config["hidden_act"] = "quick_gelu"
    refuse(checkpoint.save(), "source-config-invalid", "config.json", "'quick_gelu'")


def test_a_value_that_a_plugin_does_not_expect(refuse, checkpoint, monkeypatch):
    monkeypatch.setattr(LlamaConfig, "fill", lambda data: data["hidden_size"] // 0)
    refuse(checkpoint.folder, "source-config-invalid", "'llama'", "ZeroDivisionError")


def test_unknown_architecture(refuse, checkpoint):
    checkpoint.config["model_type"] = "lama"
    refuse(checkpoint.save(), "architecture-unknown", "'lama'", "'llama'", error=PluginError)


def test_unknown_quantization(refuse, checkpoint):
    parts = ("'q4f16_2'", "'q4f16_1'")
    code = "quantization-unknown"
    refuse(checkpoint.folder, code, *parts, error=QuantizationError, quantization="q4f16_2")


@pytest.mark.parametrize(
    ("field", "value", "method"),
    [
        ("quantization_config", {"quant_method": "gptq", "bits": 4}, "gptq"),
        ("quantization_config", {"bits": 4}, None),
        ("quantization_config", [4], None),
        ("quantization_config", {"quant_method": ["gptq"]}, None),
        ("quantization", {"group_size": 64, "bits": 4}, "MLX"),
        ("compression_config", {"format": "pack-quantized"}, "compressed-tensors"),
    ],
)
def test_quantised_already(refuse, checkpoint, field, value, method):
    checkpoint.config[field] = value
    refuse(checkpoint.save(), "model-quantized", *([f"({method})"] if method else []))


@pytest.mark.parametrize("file", ["quantize_config.json", "quant_config.json"])
def test_quantised_by_a_file(refuse, checkpoint, file):
    (checkpoint.folder / file).write_text("{}")
    refuse(checkpoint.folder, "model-quantized", file)


@pytest.mark.parametrize(
    ("parts", "method"),
    [
        (("weight", "scales", "biases"), "MLX"),
        (("qweight", "qzeros", "scales", "g_idx"), "GPTQ"),
        (("qweight", "qzeros", "scales"), "GPTQ or AWQ"),
        (("weight", "weight_scale_inv"), "FP8"),
        (("weight_packed", "weight_scale", "weight_shape"), "compressed-tensors"),
        (("weight", "weight.absmax", "weight.quant_map"), "bitsandbytes"),
        (("weight", "SCB"), "bitsandbytes"),
    ],
)
def test_quantised_by_its_tensors(refuse, checkpoint, parts, method):
    for name in [name for name in checkpoint.tensors if name.endswith("_proj.weight")]:
        value = checkpoint.tensors.pop(name).astype(np.uint8)
        for part in parts:
            checkpoint.tensors[name.removesuffix("weight") + part] = value
    refuse(checkpoint.save(), "model-quantized", method)


def test_a_dtype_that_is_not_converted_is_found_before_anything_is_written(
    refuse, checkpoint, monkeypatch
):
    monkeypatch.setattr("mlc_llm.convert.weight.open_output", None)
    head = checkpoint.tensors["lm_head.weight"]
    checkpoint.tensors["lm_head.weight"] = head.astype(np.int8)
    refuse(checkpoint.save(), "dtype-unsupported", "lm_head.weight", "I8")


def test_no_weights(refuse, checkpoint):
    (checkpoint.folder / "model.safetensors").unlink()
    names = ("model.safetensors", "model.safetensors.index.json")
    refuse(checkpoint.folder, "weights-missing", *names)


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("model.bin", "save_pretrained"),
        ("pytorch_model-00001-of-00002.bin", "index.json"),
        ("adapter_model.safetensors", "LoRA"),
        ("consolidated.safetensors", "Mistral"),
        ("consolidated.00.pth", "Meta"),
        ("model.onnx", "ONNX"),
        ("weights.npz", "MLX"),
        ("flax_model.msgpack", "save_pretrained"),
        ("model-00001-of-00002.safetensors", "index.json"),
    ],
)
@pytest.mark.parametrize("config", [True, False])
def test_weights_of_another_format(refuse, checkpoint, file, named, config):
    (checkpoint.folder / "model.safetensors").rename(checkpoint.folder / file)
    if not config:
        (checkpoint.folder / "config.json").unlink()
    code = "weights-missing" if config else "source-config-missing"
    refuse(checkpoint.folder, code, file, named)


def test_pointer_and_truncation(refuse, checkpoint):
    weights = checkpoint.folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-4])
    refuse(checkpoint.folder, "checkpoint-damaged", weights)
    weights.write_text(LFS_POINTER)
    refuse(checkpoint.folder, "lfs-pointer", weights, "git lfs pull")


@pytest.fixture
def sharded(make_checkpoint, copied):
    """A checkpoint of several files, which may be changed."""
    return copied(make_checkpoint(max_shard_size="100KB"))


def test_sharded_equals_single(sharded, make_checkpoint):
    parts = SourceModel.open(sharded).checkpoint()
    whole = SourceModel.open(make_checkpoint()).checkpoint()
    assert len({tensor.file for tensor in parts.values()}) > 2
    assert set(parts) == set(whole)
    for name, tensor in whole.items():
        assert (parts[name].read() == tensor.read()).all()


def test_a_missing_part(refuse, sharded):
    part = sorted(sharded.glob("model-*.safetensors"))[1]
    part.unlink()
    refuse(sharded, "checkpoint-incomplete", part.name, "model.safetensors.index.json")


def _edit_index(folder, change):
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        (lambda index: index.pop("weight_map"), "checkpoint-damaged", "weight_map"),
        (lambda index: index.update(weight_map=[1]), "checkpoint-damaged", "weight_map"),
        (
            lambda index: index["weight_map"].update(w="../x.safetensors"),
            "checkpoint-damaged",
            "weight_map",
        ),
        (lambda index: index["weight_map"].update(w=7), "checkpoint-damaged", "weight_map"),
        (
            lambda index: index["weight_map"].update(
                {"w": index["weight_map"]["model.norm.weight"]}
            ),
            "checkpoint-incomplete",
            "w is in",
        ),
    ],
)
def test_malformed_index(refuse, sharded, change, code, named):
    _edit_index(sharded, change)
    refuse(sharded, code, named)
