"""What is wrong with a source model, and says so."""

import json

import numpy as np
import pytest

from mlc_llm.convert import convert_weight
from mlc_llm.convert.source import SourceModel
from mlc_llm.errors import ConversionError, ModelNotFoundError, PluginError, QuantizationError
from mlc_llm.model.llama import LlamaConfig

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1234\n"


@pytest.fixture
def refuse(tmp_path):
    """Check that converting fails with that message and leaves nothing behind."""

    def check(folder, message, error=ConversionError, quantization="q4f16_1"):
        output = tmp_path / "deep" / "output"
        with pytest.raises(error, match=message):
            convert_weight(folder, quantization, output)
        assert not output.parent.exists()

    return check


def test_no_folder(refuse, tmp_path):
    refuse(tmp_path / "none", "No model .*none", ModelNotFoundError)


def test_no_config(refuse, checkpoint):
    (checkpoint.folder / "config.json").unlink()
    refuse(checkpoint.folder, r"has no config\.json: .* has a config\.json\.$")


def test_a_folder_in_mlc_format(refuse, checkpoint):
    (checkpoint.folder / "config.json").rename(checkpoint.folder / "mlc-chat-config.json")
    refuse(checkpoint.folder, "MLC's format already")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "config.json is empty"),
        ('{"model_type": ', "not valid JSON"),
        ("[]", "holds a list"),
        ("{}", "does not say the model_type"),
        ('{"model_type": 3}', "does not say the model_type"),
        (
            '{"model_type": "llama"}',
            "not a configuration of .*'llama'.*hidden_size is needed and not there",
        ),
        (LFS_POINTER, "git lfs pull"),
    ],
)
def test_malformed_config(refuse, checkpoint, text, message):
    (checkpoint.folder / "config.json").write_text(text)
    refuse(checkpoint.folder, message)


def test_a_value_that_the_architecture_refuses(refuse, checkpoint):
    checkpoint.config["hidden_act"] = "quick_gelu"
    refuse(checkpoint.save(), r"config\.json is not .*activation 'quick_gelu' is not supported")


def test_a_value_that_a_plugin_does_not_expect(refuse, checkpoint, monkeypatch):
    monkeypatch.setattr(LlamaConfig, "fill", lambda data: data["hidden_size"] // 0)
    refuse(checkpoint.folder, r"config\.json is not .*'llama': ZeroDivisionError")


def test_unknown_architecture(refuse, checkpoint):
    checkpoint.config["model_type"] = "lama"
    refuse(checkpoint.save(), "(?s)architecture 'lama'.*Did you mean 'llama'", PluginError)


def test_unknown_quantization(refuse, checkpoint):
    message = "(?s)'q4f16_2'.*Did you mean.*'q4f16_1'"
    refuse(checkpoint.folder, message, QuantizationError, quantization="q4f16_2")


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
    named = rf" \({method}\)" if method else ""
    refuse(checkpoint.save(), rf"quantised already{named}\. Convert the original model")


@pytest.mark.parametrize("file", ["quantize_config.json", "quant_config.json"])
def test_quantised_by_a_file(refuse, checkpoint, file):
    (checkpoint.folder / file).write_text("{}")
    refuse(checkpoint.folder, rf"quantised already \((GPTQ|AWQ), as {file} says\)")


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
    refuse(checkpoint.save(), f"quantised already .*{method.split()[0]}.*: it has .*original model")


def test_a_dtype_that_is_not_converted_is_found_before_anything_is_written(
    refuse, checkpoint, monkeypatch
):
    monkeypatch.setattr("mlc_llm.convert.weight.open_output", None)
    head = checkpoint.tensors["lm_head.weight"]
    checkpoint.tensors["lm_head.weight"] = head.astype(np.int8)
    refuse(checkpoint.save(), r"lm_head\.weight in .* has the dtype I8; only")


def test_no_weights(refuse, checkpoint):
    (checkpoint.folder / "model.safetensors").unlink()
    refuse(checkpoint.folder, r"neither model\.safetensors nor model\.safetensors\.index\.json\.$")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("pytorch_model.bin", "is not read.*save_pretrained"),
        ("model.gguf", r"llama\.cpp's format"),
        ("adapter_model.safetensors", r"an adapter \(LoRA\), not a model: merge it"),
        ("consolidated.safetensors", "Mistral's own layout"),
        ("consolidated.00.pth", "Meta's own layout"),
        ("model.onnx", "is ONNX"),
        ("weights.npz", "MLX's format"),
        ("flax_model.msgpack", "is not read.*save_pretrained"),
        ("model-00001-of-00002.safetensors", r"index\.json must list it"),
    ],
)
@pytest.mark.parametrize("config", [True, False])
def test_weights_of_another_format(refuse, checkpoint, file, message, config):
    (checkpoint.folder / "model.safetensors").rename(checkpoint.folder / file)
    if not config:
        (checkpoint.folder / "config.json").unlink()
    refuse(checkpoint.folder, rf"(neither model|no config).*It has {file}, which .*{message}")


def test_pointer_and_truncation(refuse, checkpoint):
    weights = checkpoint.folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-4])
    refuse(checkpoint.folder, "cut short")
    weights.write_text(LFS_POINTER)
    refuse(checkpoint.folder, "git lfs pull")


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
    refuse(sharded, rf"lacks {part.name}, which model\.safetensors\.index\.json names")


def _edit_index(folder, change):
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.pop("weight_map"), "has no weight_map"),
        (lambda index: index.update(weight_map=[1]), "has no weight_map"),
        (lambda index: index["weight_map"].update(w="../x.safetensors"), "has no weight_map"),
        (lambda index: index["weight_map"].update(w=7), "has no weight_map"),
        (
            lambda index: index["weight_map"].update(
                {"w": index["weight_map"]["model.norm.weight"]}
            ),
            "says that w is in .*, and it is not",
        ),
    ],
)
def test_malformed_index(refuse, sharded, change, message):
    _edit_index(sharded, change)
    refuse(sharded, message)
