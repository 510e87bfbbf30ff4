"""What is wrong with a source model, and says so."""

import json

import pytest

from mlc_llm.convert import convert_weight
from mlc_llm.convert.source import SourceModel
from mlc_llm.errors import ConversionError, ModelNotFoundError, PluginError, QuantizationError

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
    refuse(checkpoint.folder, r"has no config\.json")


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
            "not a configuration of .*'llama'.*hidden_size is needed",
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


def test_unknown_architecture(refuse, checkpoint):
    checkpoint.config["model_type"] = "lama"
    refuse(checkpoint.save(), "(?s)architecture 'lama'.*Did you mean 'llama'", PluginError)


def test_unknown_quantization(refuse, checkpoint):
    message = "(?s)'q4f16_2'.*Did you mean.*'q4f16_1'"
    refuse(checkpoint.folder, message, QuantizationError, quantization="q4f16_2")


def test_quantised_already(refuse, checkpoint):
    checkpoint.config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    refuse(checkpoint.save(), r"quantised already \(gptq\).*original model")


def test_no_weights(refuse, checkpoint):
    (checkpoint.folder / "model.safetensors").unlink()
    refuse(checkpoint.folder, r"neither model\.safetensors nor model\.safetensors\.index\.json\.$")


def test_pytorch_weights(refuse, checkpoint):
    weights = checkpoint.folder / "model.safetensors"
    weights.rename(checkpoint.folder / "pytorch_model.bin")
    refuse(checkpoint.folder, r"pytorch_model\.bin, which is not read.*save_pretrained")


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
