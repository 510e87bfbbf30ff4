"""Checkpoints that tests may change, and the parts that they are made of."""

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy
import tokenizers

CONFIG = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 300,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _tensors():
    random = np.random.default_rng(0)
    layer = "model.layers.0"
    shapes = {
        "model.embed_tokens.weight": (300, 32),
        f"{layer}.self_attn.q_proj.weight": (32, 32),
        f"{layer}.self_attn.k_proj.weight": (16, 32),
        f"{layer}.self_attn.v_proj.weight": (16, 32),
        f"{layer}.self_attn.o_proj.weight": (32, 32),
        f"{layer}.mlp.gate_proj.weight": (44, 32),
        f"{layer}.mlp.up_proj.weight": (44, 32),
        f"{layer}.mlp.down_proj.weight": (32, 44),
        f"{layer}.input_layernorm.weight": (32,),
        f"{layer}.post_attention_layernorm.weight": (32,),
        "model.norm.weight": (32,),
        "lm_head.weight": (300, 32),
    }
    return {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}


class Checkpoint:
    """A checkpoint in a folder: change ``config`` and ``tensors``, then ``save``."""

    def __init__(self, folder):
        self.folder, self.config, self.tensors = folder, dict(CONFIG), _tensors()
        self.save()

    def save(self):
        self.folder.mkdir(exist_ok=True)
        (self.folder / "config.json").write_text(json.dumps(self.config))
        safetensors.numpy.save_file(self.tensors, self.folder / "model.safetensors")
        return self.folder


@pytest.fixture
def checkpoint(tmp_path):
    """A Llama of one layer, untied, with random weights; made without torch."""
    return Checkpoint(tmp_path / "checkpoint")


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


@pytest.fixture
def make_byte_tokenizer():
    """Give a checkpoint a ``tokenizer.json`` with a token for every byte and three special ones."""

    def make(checkpoint, more=0):
        tokens = ["<unk>", "<s>", "</s>", *BYTES, *(f"more{index}" for index in range(more))]
        vocab = {token: index for index, token in enumerate(tokens)}
        tokenizer = tokenizers.Tokenizer(
            tokenizers.models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True)
        )
        tokenizer.normalizer = tokenizers.normalizers.Sequence(
            [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
        )
        decoders = tokenizers.decoders
        tokenizer.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
        tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
        tokenizer.save(str(checkpoint.folder / "tokenizer.json"))
        return checkpoint.folder

    return make


@pytest.fixture
def copied(tmp_path):
    """Copy a folder, so that it may be changed."""

    def copy(folder, name="copy"):
        return shutil.copytree(folder, tmp_path / name, copy_function=shutil.copyfile)

    return copy


@pytest.fixture
def content():
    """What a folder holds: every file's bytes by its name."""

    def read(folder):
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    return read
