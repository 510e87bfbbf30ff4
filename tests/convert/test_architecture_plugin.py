"""An architecture of a third party converts: found through its entry point, in a new process."""

import json
import os
import subprocess
import sys

import numpy as np
import safetensors.numpy

from mlc_llm.weights.folder import read_manifest
from mlc_llm.weights.shards import Shards

PLUGIN = '''
from mlc_llm.plugin import Architecture, ModelConfig, Weight


class Bigram(Architecture):
    """The next token's logits are a table's row, squeezed through a matrix with a bias."""

    name = "bigram"

    def config(self, data):
        return ModelConfig.model_validate(data)

    def attention(self, config):
        return []

    def module(self, config, dtype):
        from tvm.relax.frontend import nn

        class Module(nn.Module):
            def __init__(self):
                self.table = nn.Embedding("vocab_size", config.hidden_size, dtype=dtype)
                self.gate = nn.Linear(config.hidden_size, 3, bias=True, dtype=dtype)

        return Module()

    def weights(self, config):
        return [
            Weight("table.weight", ("low", "high")),
            Weight("gate.weight", ("gate.w",), quantize=False),
            Weight("gate.bias", ("gate.b",)),
        ]

    def ignores(self, name):
        return name == "training_step"
'''

CONFIG = {
    "model_type": "bigram",
    "hidden_size": 40,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "vocab_size": 9,
    "max_position_embeddings": 16,
}


def test_third_party_architecture(tmp_path):
    installed, source = tmp_path / "site", tmp_path / "checkpoint"
    metadata = installed / "bigram-1.0.dist-info"
    metadata.mkdir(parents=True)
    (installed / "bigram.py").write_text(PLUGIN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: bigram\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[mlc_llm.architectures]\nbigram = bigram:Bigram\n")
    random = np.random.default_rng(0)
    tensors = {
        "low": random.standard_normal((4, 40), np.float32),
        "high": random.standard_normal((5, 40), np.float32),
        "gate.w": random.standard_normal((3, 40), np.float32),
        "gate.b": random.standard_normal((3,), np.float32),
        "training_step": np.zeros((1,), np.int64),
    }
    source.mkdir()
    (source / "config.json").write_text(json.dumps(CONFIG))
    safetensors.numpy.save_file(tensors, source / "model.safetensors")
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, mlc_llm; mlc_llm.convert_weight(sys.argv[1], 'q4f32_1', sys.argv[2])",
            source,
            tmp_path / "output",
        ],
        env={**os.environ, "PYTHONPATH": str(installed)},
        check=True,
        timeout=120,
    )
    manifest = read_manifest(tmp_path / "output")
    read = Shards(tmp_path / "output", manifest).read
    shapes = {name: tensor.shape for name, tensor in manifest.tensors.items()}
    assert shapes == {
        "table.q_weight": (9, 8),
        "table.q_scale": (9, 2),
        "gate.weight": (3, 40),
        "gate.bias": (3,),
    }
    np.testing.assert_array_equal(read(manifest.tensors["gate.weight"]), tensors["gate.w"])
    np.testing.assert_array_equal(read(manifest.tensors["gate.bias"]), tensors["gate.b"])
