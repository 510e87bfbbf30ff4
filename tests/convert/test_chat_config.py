"""``mlc-chat-config.json``: what is taken from where, and what is refused."""

import json
import shutil

import pytest

from mlc_llm.config import ModelFile
from mlc_llm.convert import gen_config
from mlc_llm.errors import (
    ConfigError,
    ConversionError,
    QuantizationError,
    TemplateError,
)
from mlc_llm.plugin import ConversationTemplate
from mlc_llm.registry.registry import default_registry
from mlc_llm.sources.tokenizer_files import tokenizer_info
from mlc_llm.testing import raises
from mlc_llm.tokenizer import load_tokenizer
from mlc_llm.tokenizer.template_ids import fitted

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1234\n"


@pytest.fixture
def source(checkpoint, make_byte_tokenizer):
    """A checkpoint with a tokenizer of 259 tokens; its model has 300 rows."""
    make_byte_tokenizer(checkpoint)
    return checkpoint


@pytest.fixture
def generate(source, tmp_path):
    """Save the checkpoint, make its configuration, return the file's content."""

    def make(quantization="q4f16_1", conv_template="LM", **sizes):
        path = gen_config(source.save(), quantization, conv_template, tmp_path / "out", **sizes)
        assert path == tmp_path / "out" / "mlc-chat-config.json"
        ModelFile.load(path)
        return json.loads(path.read_text())

    return make


def test_a_trained_model(stories260k, tmp_path):
    path = gen_config(str(stories260k), "q4f16_1", "llama-2", str(tmp_path / "a" / "out"))
    data = json.loads(path.read_text())
    template = data.pop("conv_template")
    assert data == {
        "version": "0.1.0",
        "model_type": "llama",
        "quantization": "q4f16_1",
        "model_config": {
            "hidden_size": 64,
            "intermediate_size": 172,
            "num_hidden_layers": 5,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 8,
            "vocab_size": 512,
            "rms_norm_eps": 1e-5,
            "position_embedding_base": 10000.0,
            "rope_scaling": None,
            "tie_word_embeddings": True,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "context_window_size": 512,
            "max_position_embeddings": 512,
            "sliding_window_size": -1,
            "attention_sink_size": -1,
            "prefill_chunk_size": 512,
            "tensor_parallel_shards": 1,
            "pipeline_parallel_stages": 1,
            "max_batch_size": 1,
        },
        "vocab_size": 512,
        "active_vocab_size": 512,
        "context_window_size": 512,
        "sliding_window_size": -1,
        "prefill_chunk_size": 512,
        "attention_sink_size": -1,
        "tensor_parallel_shards": 1,
        "pipeline_parallel_stages": 1,
        "max_batch_size": 1,
        "temperature": 0.8,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "top_p": 0.9,
        "tokenizer_files": ["tokenizer.model", "tokenizer_config.json"],
        "tokenizer_info": None,
        "pad_token_id": None,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    assert template["name"] == "llama-2"
    for name in data["tokenizer_files"]:
        assert (path.parent / name).read_bytes() == (stories260k / name).read_bytes()
    assert len(list(path.parent.iterdir())) == 3


def test_has_the_fields_of_published_files(test_data, generate):
    """Every field that MLC writes is there, and of the same type."""
    published = test_data / "mlc" / "weights" / "tensor-cache-example" / "mlc-chat-config.json"
    theirs, ours = json.loads(published.read_text()), generate()
    assert set(theirs) <= set(ours)
    assert set(theirs["conv_template"]) <= set(ours["conv_template"])
    assert set(theirs["tokenizer_info"]) == set(ours["tokenizer_info"])
    for name, value in theirs.items():
        same = isinstance(ours[name], type(value))
        assert same or name in ("pad_token_id", "eos_token_id"), name


@pytest.mark.parametrize("name", ["LM", "llama-2", "mistral_default"])
def test_the_whole_template_is_embedded(source, generate, name):
    """With the token ids that it has in this tokenizer, as MLC writes them."""
    embedded = generate(conv_template=name)["conv_template"]
    template = fitted(default_registry().template(name), load_tokenizer(source.folder))
    assert ConversationTemplate.from_data(embedded, "the file") == template
    assert ("has_memory" in embedded) == (name == "LM")
    assert ("system_optional" in embedded) == (name != "LM")
    assert "system_in_last_turn" not in embedded


def test_the_architecture_reads_its_model_config_back(source, generate):
    source.config |= {
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5},
        "tie_word_embeddings": True,
    }
    data = generate(context_window_size=32)
    llama = default_registry().architecture("llama")
    config = llama.config(data["model_config"])
    assert config.position_embedding_base == 5e5
    assert config.rope_scaling == {"rope_type": "linear", "factor": 2.0}
    assert config.tie_word_embeddings
    assert config.context_window_size == 32
    assert config.shape() == llama.config(source.config).shape()


def test_generation_settings(source, generate):
    settings = {
        "temperature": 0.6,
        "top_p": 0.95,
        "repetition_penalty": 1.1,
        "bos_token_id": 1,
        "eos_token_id": [2, 7],
        "pad_token_id": 0,
        "do_sample": True,
    }
    (source.folder / "generation_config.json").write_text(json.dumps(settings))
    data = generate()
    del settings["do_sample"]
    assert {name: data[name] for name in settings} == settings


def test_without_generation_settings(source, generate):
    source.config["pad_token_id"] = 0
    data = generate()
    names = ("temperature", "top_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
    assert [data[name] for name in names] == [0.7, 0.95, 1.0, 0.0, 0.0]
    ids = ("pad_token_id", "bos_token_id", "eos_token_id")
    assert [data[name] for name in ids] == [0, 1, 2]


def test_nulls_in_generation_settings(source, generate):
    text = '{"temperature": null, "eos_token_id": null}'
    (source.folder / "generation_config.json").write_text(text)
    data = generate()
    assert (data["temperature"], data["eos_token_id"]) == (0.7, 2)


@pytest.mark.parametrize(
    ("said", "temperature", "top_p"),
    [
        ({"temperature": 0.6}, 0.6, 1.0),
        ({"top_p": 0.5}, 1.0, 0.5),
        ({"top_k": 50}, 0.7, 0.95),
        ({"do_sample": False}, 0.0, 0.95),
        ({"do_sample": False, "temperature": 0.6, "top_p": 0.9}, 0.0, 0.9),
        ({"do_sample": True, "temperature": 1.0}, 1.0, 1.0),
    ],
)
def test_sampling_as_far_as_it_is_said(source, generate, said, temperature, top_p):
    (source.folder / "generation_config.json").write_text(json.dumps(said))
    data = generate()
    assert (data["temperature"], data["top_p"]) == (temperature, top_p)


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("{", "json-malformed", "generation_config.json"),
        ('{"top_p": 3}', "source-config-invalid", "top_p"),
        ('{"temperature": "hot"}', "source-config-invalid", "temperature"),
        ('{"eos_token_id": "</s>"}', "source-config-invalid", "eos_token_id"),
    ],
)
def test_malformed_generation_settings(source, generate, tmp_path, text, code, named):
    (source.folder / "generation_config.json").write_text(text)
    with raises(code, named):
        generate()
    assert not (tmp_path / "out").exists()


NO_WINDOW = {"sliding_window": None}
WINDOWS = ("context_window_size", "sliding_window_size", "prefill_chunk_size")


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        (NO_WINDOW, {}, (64, -1, 64)),
        ({**NO_WINDOW, "max_position_embeddings": 8192}, {}, (8192, -1, 2048)),
        (
            {**NO_WINDOW, "max_position_embeddings": 8192},
            {"prefill_chunk_size": 4096},
            (8192, -1, 4096),
        ),
        (NO_WINDOW, {"context_window_size": 32}, (32, -1, 32)),
        (NO_WINDOW, {"context_window_size": 128, "prefill_chunk_size": 16}, (128, -1, 16)),
        # transformers' default.
        ({}, {}, (-1, 4096, 2048)),
        ({"sliding_window": 16}, {}, (-1, 16, 16)),
        ({"sliding_window": 16}, {"context_window_size": 48}, (48, 16, 16)),
        ({"sliding_window": 16}, {"sliding_window_size": -1}, (64, -1, 64)),
        ({}, {"sliding_window_size": 24, "prefill_chunk_size": 8}, (-1, 24, 8)),
    ],
)
def test_windows(source, generate, model, given, expected):
    source.config |= {"model_type": "mistral", **model}
    data = generate(**given)
    assert tuple(data[name] for name in WINDOWS) == expected
    assert tuple(data["model_config"][name] for name in WINDOWS) == expected


def test_sinks_and_batch(source, generate):
    source.config |= {"model_type": "mistral", "sliding_window": 16}
    data = generate(attention_sink_size=4, max_batch_size=3)
    assert data["attention_sink_size"] == data["model_config"]["attention_sink_size"] == 4
    assert data["max_batch_size"] == data["model_config"]["max_batch_size"] == 3


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"context_window_size": 0}, ["context_window_size", 0]),
        ({"context_window_size": -2}, ["context_window_size", -2]),
        ({"context_window_size": -1}, ["context_window_size", -1]),
        ({"sliding_window_size": 0}, ["sliding_window_size", 0]),
        ({"prefill_chunk_size": 65}, ["prefill_chunk_size", 65, 64]),
        ({"prefill_chunk_size": 0}, ["prefill_chunk_size", 0]),
        ({"attention_sink_size": -3}, ["attention_sink_size", -3]),
        (
            {"sliding_window_size": 8, "attention_sink_size": 8},
            ["attention_sink_size (8)", "sliding_window_size (8)"],
        ),
        ({"max_batch_size": 0}, ["max_batch_size", 0]),
    ],
)
def test_sizes_that_make_no_sense(generate, tmp_path, given, named):
    with raises("size-invalid", *named, error=ConfigError):
        generate(**given)
    assert not (tmp_path / "out").exists()


def test_unknown_names(generate):
    with raises("quantization-unknown", "'q4f16_2'", "'q4f16_1'", error=QuantizationError):
        generate(quantization="q4f16_2")
    with raises("template-unknown", "'llama2'", "'llama-2'", error=TemplateError):
        generate(conv_template="llama2")


def test_every_tokenizer_file_is_copied(source, generate, tmp_path):
    names = ["tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json"]
    names += ["tokenizer_config.json", "special_tokens_map.json"]
    for name in names[1:]:
        (source.folder / name).write_text("{}")
    (source.folder / "training_args.bin").write_text("not this")
    assert generate()["tokenizer_files"] == names
    copied = {path.name for path in (tmp_path / "out").iterdir()}
    assert copied == {*names, "mlc-chat-config.json"}


def test_no_tokenizer(source, generate, tmp_path):
    (source.folder / "tokenizer.json").unlink()
    with raises("tokenizer-missing", "tokenizer.json", "tokenizer.model"):
        generate()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json"])
def test_a_git_lfs_pointer(source, generate, name):
    (source.folder / name).write_text(LFS_POINTER)
    with raises("lfs-pointer", source.folder / name, "git lfs pull"):
        generate()


def test_a_larger_vocabulary_of_the_tokenizer(source, generate, make_byte_tokenizer):
    make_byte_tokenizer(source, more=100)
    data = generate()
    assert (data["vocab_size"], data["active_vocab_size"]) == (300, 359)


def test_active_vocabulary(generate):
    data = generate()
    assert (data["vocab_size"], data["active_vocab_size"]) == (300, 259)


def test_running_again_replaces(generate, tmp_path):
    assert generate()["quantization"] == "q4f16_1"
    assert generate(quantization="q0f32")["quantization"] == "q0f32"
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_the_output_is_a_file(source, tmp_path):
    (tmp_path / "out").write_text("precious")
    with raises("file-unwritable", tmp_path / "out", error=ConversionError):
        gen_config(source.folder, "q4f16_1", "LM", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "precious"


def test_no_place_for_temporary_files(source, generate, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with raises("file-unwritable", "TMPDIR", error=ConversionError):
        generate()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("llama-2", ("byte_fallback", True, True)),
        ("mistral-7b-instruct-v0.3", ("byte_fallback", None, True)),
        ("smollm2-135m-instruct", ("byte_level", False, False)),
    ],
)
def test_tokenizer_info(test_data, folder, expected):
    info = tokenizer_info(test_data / "tokenizers" / folder)
    names = ("token_postproc_method", "prepend_space_in_encode", "strip_space_in_decode")
    for name, value in zip(names, expected, strict=True):
        assert value is None or info[name] == value


def test_tokenizer_info_of_one_step(tmp_path):
    data = {"decoder": {"type": "ByteLevel"}, "normalizer": {"type": "Prepend", "prepend": "▁"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    assert tokenizer_info(tmp_path) == {
        "token_postproc_method": "byte_level",
        "prepend_space_in_encode": True,
        "strip_space_in_decode": False,
    }
    shutil.copy(tmp_path / "tokenizer.json", tmp_path / "tokenizer.model")
    (tmp_path / "tokenizer.json").unlink()
    assert tokenizer_info(tmp_path) is None


def test_settings_that_are_asked_for_take_the_sources_place(generate, source):
    (source.folder / "generation_config.json").write_text('{"temperature": 0.3}')
    asked = {
        "temperature": 0.5,
        "top_p": 0.8,
        "repetition_penalty": 1.1,
        "presence_penalty": -0.5,
        "frequency_penalty": 2.0,
    }
    assert asked.items() <= generate(**asked).items()
    assert generate(top_p=0.8)["temperature"] == 0.3


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -1.0), ("top_p", 0.0), ("repetition_penalty", 0.0), ("presence_penalty", 3.0)],
)
def test_settings_out_of_their_range(generate, name, value):
    with raises("config-invalid", name, value, error=ConfigError):
        generate(**{name: value})


def test_a_system_message_that_is_asked_for(generate):
    own = generate(conv_template="chatml")["conv_template"]
    assert generate(conv_template="chatml", system_message="Be brief.")["conv_template"] == {
        **own,
        "system_message": "Be brief.",
    }
    with raises("template-without-system", "LM", error=TemplateError):
        generate(conv_template="LM", system_message="Be brief.")
