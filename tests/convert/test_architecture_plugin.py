"""An architecture of a third party converts: found through its entry point, in a new process."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from mlc_llm.quantization import plan
from mlc_llm.quantization.packing import quantize
from mlc_llm.weights.folder import read_manifest
from mlc_llm.weights.shards import Shards

PLUGIN = '''
from mlc_llm.model.layers import Embedding, Linear
from mlc_llm.model.module import Module, Parameter
from mlc_llm.model.weights import transposed
from mlc_llm.plugin import Architecture, ModelConfig, Weight


class Gate(Module):
    """A layer of the plugin's own, which is not quantised."""

    def __init__(self, width):
        self.weight = Parameter((3, width))
        self.bias = Parameter((3,), "float32")


class Model(Module):
    def __init__(self, config, attention):
        self.table = Embedding("vocab_size", config.hidden_size)
        self.squeeze = Linear(config.hidden_size, 6)
        self.gate = Gate(6)


class Bigram(Architecture):
    """The next token's logits are a table's row, squeezed through a matrix with a bias."""

    name = "bigram"
    config_type = ModelConfig
    module_type = Model

    def attention(self, config):
        return []

    def weights(self, config):
        return [
            Weight("table.weight", ("low", "high")),
            Weight("squeeze.weight", ("squeeze.w",), make=transposed),
            Weight("gate.weight", ("gate.w",)),
            Weight("gate.bias"),
        ]

    def ignores(self, name):
        return name == "training_step"
'''

CONVERT = """
import sys, mlc_llm

mlc_llm.convert_weight(sys.argv[1], sys.argv[2], sys.argv[3])
loaded = {"tvm", "torch"} & set(sys.modules)
assert not loaded, f"converting imported {loaded}"
"""

CONFIG = {
    "model_type": "bigram",
    "hidden_size": 40,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "vocab_size": 9,
    "max_position_embeddings": 16,
}


@pytest.fixture
def installed(tmp_path):
    """A folder for PYTHONPATH where the plugin is installed."""
    folder = tmp_path / "site"
    metadata = folder / "bigram-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "bigram.py").write_text(PLUGIN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: bigram\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[mlc_llm.architectures]\nbigram = bigram:Bigram\n")
    return folder


@pytest.mark.parametrize("quantization", ["q4f32_1", "q4f16_0"])
def test_third_party_architecture(tmp_path, installed, quantization):
    source = tmp_path / "checkpoint"
    random = np.random.default_rng(0)
    tensors = {
        "low": random.standard_normal((4, 40), np.float32),
        "high": random.standard_normal((5, 40), np.float32),
        "squeeze.w": random.standard_normal((40, 6), np.float32),
        "gate.w": random.standard_normal((3, 6), np.float32),
        "gate.bias": random.standard_normal((3,), np.float32),
        "training_step": np.zeros((1,), np.int64),
    }
    source.mkdir()
    (source / "config.json").write_text(json.dumps(CONFIG))
    safetensors.numpy.save_file(tensors, source / "model.safetensors")
    subprocess.run(
        [sys.executable, "-c", CONVERT, source, quantization, tmp_path / "output"],
        env={**os.environ, "PYTHONPATH": str(installed)},
        check=True,
        timeout=120,
    )
    manifest = read_manifest(tmp_path / "output")
    shards = Shards(tmp_path / "output", manifest)
    stored = {name: shards.read(tensor) for name, tensor in manifest.tensors.items()}
    chosen = plan(quantization)
    words, scales = (8, 6), (2, 6)
    assert {name: array.shape for name, array in stored.items()} == {
        "table.q_weight": (9, 8),
        "table.q_scale": (9, 2),
        "squeeze.q_weight": words if quantization == "q4f16_0" else words[::-1],
        "squeeze.q_scale": scales if quantization == "q4f16_0" else scales[::-1],
        "gate.weight": (3, 6),
        "gate.bias": (3,),
    }
    for got, expected in zip(
        (stored["squeeze.q_weight"], stored["squeeze.q_scale"]),
        quantize(tensors["squeeze.w"].T, chosen.linear),
        strict=True,
    ):
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(stored["gate.weight"], tensors["gate.w"].astype(chosen.dtype))
    # The plugin asks for float32, whatever the plan's dtype is.
    np.testing.assert_array_equal(stored["gate.bias"], tensors["gate.bias"])
