"""Safetensors files, and whole checkpoints of them with their index."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from fuzz.mutation import mutate_file
from fuzz.mutation.headed import headed, mutate_headed
from fuzz.mutation.json_text import json_bytes
from fuzz.subject import Case, Subject
from fuzz.subjects.small_model import TINY
from mlc_llm.convert import convert_weight
from mlc_llm.sources.folder import CONFIG_FILE
from mlc_llm.sources.safetensors import INDEX_FILE, SINGLE_FILE
from mlc_llm.sources.safetensors_file import read_header
from mlc_llm.testing.model_folder import SMALL_CONFIG, llama_shapes
from mlc_llm.weights.folder import read_manifest
from mlc_llm.weights.shards import Shards


class SafetensorsFiles(Subject):
    """One file: its header is read, then every tensor, whole and by rows."""

    name = "safetensors"
    share = 1.5

    def seeds(self) -> list[Case]:
        random = np.random.default_rng(0)
        floats: dict[str, npt.NDArray[Any]] = {
            "a": random.standard_normal((3, 4), np.float32),
            "b.weight": random.standard_normal((2, 2, 2)).astype(np.float16),
            "scalar": np.array(1.5, np.float32),
            "empty": np.zeros((0, 3), np.float32),
        }
        others: dict[str, npt.NDArray[Any]] = {
            "codes": np.arange(6, dtype=np.int32),
            "wide": np.ones(2, np.float64),
        }
        bfloat16 = {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
        return [
            {SINGLE_FILE: save(floats)},
            {SINGLE_FILE: save({**floats, **others}, {"format": "pt", "note": "x"})},
            {SINGLE_FILE: headed({"half": bfloat16}, b"\x80\x3f\x00\x40")},
        ]

    def mutate(self, name: str, content: bytes, random: Random) -> bytes:
        return mutate_headed(content, random)

    def feed(self, folder: Path) -> None:
        for tensor in read_header(folder / SINGLE_FILE).values():
            if tensor.dtype in ("F16", "F32", "F64", "BF16"):
                assert tensor.read().shape == tensor.shape
                if tensor.shape:
                    tensor.read(slice(1, 2))


class Checkpoints(Subject):
    """A checkpoint of two files and an index, which is converted."""

    name = "checkpoint"
    share = 0.4

    def seeds(self) -> list[Case]:
        return [{**self._files, CONFIG_FILE: json_bytes({**SMALL_CONFIG, **TINY})}]

    @cached_property
    def _files(self) -> Case:
        random = np.random.default_rng(0)
        shapes = llama_shapes({**SMALL_CONFIG, **TINY})
        arrays = {name: random.standard_normal(s).astype(np.float16) for name, s in shapes.items()}
        names = sorted(arrays)
        parts = {"model-1.safetensors": names[:5], "model-2.safetensors": names[5:]}
        weight_map = {name: file for file, part in parts.items() for name in part}
        files = {file: save({n: arrays[n] for n in part}) for file, part in parts.items()}
        return {**files, INDEX_FILE: json_bytes({"metadata": {}, "weight_map": weight_map})}

    def mutate(self, name: str, content: bytes, random: Random) -> bytes:
        if name.endswith(".safetensors"):
            return mutate_headed(content, random)
        return mutate_file(name, content, random)

    def feed(self, folder: Path) -> None:
        made = convert_weight(folder, "q4f16_1", folder / "made")
        Shards(made, read_manifest(made)).verify()
