"""The manifest of a model folder, under both its names, and the shards that it describes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fuzz.mutation.json_text import json_bytes
from fuzz.subject import Case, Subject
from mlc_llm.config import CHAT_CONFIG_FILE
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.manifest import (
    BFLOAT16,
    MANIFEST_FILE,
    OLDER_MANIFEST_FILE,
    Manifest,
    ShardRecord,
    TensorRecord,
)
from mlc_llm.weights.shard_writer import ShardWriter

_CONFIG = {
    "model_type": "llama",
    "quantization": "q0f32",
    "model_config": {"hidden_size": 8},
    "vocab_size": 16,
    "conv_template": "LM",
}


class Manifests(Subject):
    """Every tensor of a folder is read, and every checksum is compared."""

    name = "manifest"
    share = 1.5

    def seeds(self) -> list[Case]:
        random = np.random.default_rng(0)
        arrays: dict[str, npt.NDArray[Any]] = {
            "embed.weight": random.standard_normal((16, 8), np.float32),
            "odd.weight": random.standard_normal(3).astype(np.float16),
            "codes.q_weight": random.integers(0, 1 << 32, (5, 4), np.uint32),
            "empty.weight": np.zeros((0, 4), np.float32),
        }
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with ShardWriter(folder, limit=600) as writer:
                for tensor, array in arrays.items():
                    writer.add(tensor, array.shape, str(array.dtype), [array])
                manifest = writer.finish({"ParamSize": len(arrays), "BitsPerParam": 16.0})
            shards = {path.name: path.read_bytes() for path in folder.iterdir()}
        narrow = TensorRecord("norm", (4,), "float32", "one.bin", 2, 8, BFLOAT16)
        older = Manifest((ShardRecord("one.bin", 12, None, (narrow,)),))
        return [
            {MANIFEST_FILE: manifest.dump(), **shards},
            {OLDER_MANIFEST_FILE: older.dump(), "one.bin": bytes(range(12))},
        ]

    def feed(self, folder: Path) -> None:
        (folder / CHAT_CONFIG_FILE).write_bytes(json_bytes(_CONFIG))
        with ModelFolder.open(folder) as opened:
            for name, record in opened.manifest.tensors.items():
                array = opened.read(name)
                assert array.shape == record.shape
                opened.forget(name)
            opened.manifest.dump()
            opened.verify()
