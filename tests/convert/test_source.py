"""What is wrong with a source model, and says so."""

import json

import pytest

from mlc_llm.convert import convert_weight
from mlc_llm.convert.source import SourceModel
from mlc_llm.errors import ConversionError, ModelNotFoundError, PluginError, QuantizationError
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


def test_unknown_architecture(refuse, checkpoint):
    checkpoint.config["model_type"] = "lama"
    refuse(checkpoint.save(), "architecture-unknown", "'lama'", "'llama'", error=PluginError)


def test_unknown_quantization(refuse, checkpoint):
    parts = ("'q4f16_2'", "'q4f16_1'")
    code = "quantization-unknown"
    refuse(checkpoint.folder, code, *parts, error=QuantizationError, quantization="q4f16_2")


def test_quantised_already(refuse, checkpoint):
    checkpoint.config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    refuse(checkpoint.save(), "model-quantized", "gptq")


def test_no_weights(refuse, checkpoint):
    (checkpoint.folder / "model.safetensors").unlink()
    names = ("model.safetensors", "model.safetensors.index.json")
    refuse(checkpoint.folder, "safetensors-missing", *names)


def test_pytorch_weights(refuse, checkpoint):
    weights = checkpoint.folder / "model.safetensors"
    weights.rename(checkpoint.folder / "pytorch_model.bin")
    refuse(checkpoint.folder, "safetensors-missing", "pytorch_model.bin", "save_pretrained")


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
