"""Phi 1, 1.5 and 2."""

from __future__ import annotations

import json
import re
import shutil
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlc_llm.convert import convert_source
from mlc_llm.model.phi import PHI, PHI_MSFT
from mlc_llm.testing.workbench import Workbench
from mlc_llm.weights.folder import ModelFolder

from .conformance import FamilyConformance, Fields, TransformersModel, older
from .gguf_layout import SETTINGS, GGUFLayout


class TestPhi(FamilyConformance):
    architecture = PHI
    layout = "phi"
    variants = {
        "plain": {"num_key_value_heads": None},
        "part": {
            "rope_parameters": {"partial_rotary_factor": 0.25, "rope_theta": 2e4},
            "hidden_act": "relu",
        },
        "norms of heads": {"qk_layernorm": True, "partial_rotary_factor": 1.0},
    }
    refused = {
        "tied": ({"tie_word_embeddings": True}, "tie_word_embeddings"),
        "another activation": ({"hidden_act": "tanh"}, "activation"),
    }
    gguf = GGUFLayout("phi2", settings={"rope.dimension_count": lambda config: 16})

    def test_a_file_says_the_part_in_two_ways(self, data: Fields) -> None:
        del data["rope_parameters"]
        names = {"rope_theta": 2e4, "partial_rotary_factor": 0.25}
        newer = self.architecture.config({**data, "rope_parameters": names})
        assert self.architecture.config({**data, **names}) == newer
        assert len(newer.rope().frequencies) == 4
        assert len(self.architecture.config(data).rope().frequencies) == 8

    @pytest.mark.parametrize("base", ["rope_theta", "position_embedding_base"])
    def test_older_names(self, data: Fields, base: str) -> None:
        assert self.architecture.config(older(data, base)) == self.architecture.config(data)


class TestPhiMSFT(FamilyConformance):
    """Phi's first files, which transformers no longer reads."""

    architecture = PHI_MSFT
    layout = "phi-msft"
    model_type = "phi"
    variants = {"plain": {"num_key_value_heads": None, "partial_rotary_factor": 0.25}}
    refused = {"no heads": ({"n_head": 0}, "n_head")}

    def variant(self, workbench: Workbench, name: str) -> Path:
        newer = super().variant(workbench, name)
        path = newer.with_name(f"{newer.name}-first")
        return path if path.is_dir() else first_files(newer, path)

    def transformers_model(self, checkpoint: Path) -> TransformersModel:
        newer = checkpoint.with_name(checkpoint.name.removesuffix("-first"))
        return super().transformers_model(newer)

    def test_gguf_of_these(self, checkpoint: Path, workbench: Workbench, tmp_path: Path) -> None:
        """A file that was made of these has queries, keys and values in one tensor."""
        settings = {key: itemgetter(FIRST[name]) for key, name in SETTINGS.items() if name in FIRST}
        layout = GGUFLayout("phi2", {**settings, "rope.dimension_count": itemgetter("rotary_dim")})
        file = layout.write(tmp_path / "model.gguf", checkpoint)
        found = convert_source(file, tmp_path / "out", quantization="q0f32", conv_template="LM")
        expected = workbench.convert(checkpoint, "q0f32", self.architecture)
        read, wanted = (ModelFolder.open(folder).config for folder in (found, expected))
        assert PHI.config(read.architecture_config) == PHI.config(wanted.architecture_config)
        shards = [sorted(folder.glob("params_shard_*.bin")) for folder in (found, expected)]
        assert [one.read_bytes() for one in shards[0]] == [one.read_bytes() for one in shards[1]]


FIELDS = {
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
    "n_inner": "intermediate_size",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
    "activation_function": "hidden_act",
    "vocab_size": "vocab_size",
}
FIRST = {field: name for name, field in FIELDS.items()}
NAMES = {
    r"model\.layers\.": "transformer.h.",
    r"model\.embed_tokens": "transformer.embd.wte",
    r"lm_head": "lm_head.linear",
    r"model\.final_layernorm": "lm_head.ln",
    r"input_layernorm": "ln",
    r"self_attn\.dense": "mixer.out_proj",
    r"self_attn\.q_proj": "mixer.Wqkv",
}


def first_files(newer: Path, path: Path) -> Path:
    """A checkpoint of transformers under the names of Phi's first files."""
    shutil.copytree(newer, path)
    config = json.loads((newer / "config.json").read_text())
    first = {name: config[field] for name, field in FIELDS.items()}
    (path / "config.json").write_text(
        json.dumps({"model_type": "phi-msft", "rotary_dim": 8, "n_head_kv": None, **first})
    )
    tensors = load_file(newer / "model.safetensors")
    for name in [name for name in tensors if "q_proj" in name]:
        keys, values = (tensors.pop(name.replace("q_proj", f"{part}_proj")) for part in "kv")
        tensors[name] = np.concatenate([tensors[name], keys, values])
    save_file(
        {renamed(name): values for name, values in tensors.items()}, path / "model.safetensors"
    )
    return path


def renamed(name: str) -> str:
    for theirs, first in NAMES.items():
        name = re.sub(f"(^|(?<=\\.)){theirs}", first, name)
    return name
