"""A compiled model that gives the logits of every position, and its weights in plain float32."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm

from mlc_llm.compile import compile_library
from mlc_llm.config import CHAT_CONFIG_FILE
from mlc_llm.plugin import ModelSpec
from mlc_llm.plugin.registry import default_registry
from mlc_llm.quantization import scheme
from mlc_llm.quantization.packing import dequantize
from mlc_llm.runtime.compiled_library import CompiledLibrary
from mlc_llm.runtime.engine import Stop
from mlc_llm.runtime.kv_cache import KVCache
from mlc_llm.runtime.parameters import load_parameters
from mlc_llm.runtime.window import Window
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.manifest import MANIFEST_FILE
from mlc_llm.weights.shard_writer import ShardWriter

Logits = npt.NDArray[np.float32]


class ProbedModel:
    """A model folder, compiled for this CPU.

    Args:
        path: the model folder.
        library: where the compiled library goes; its name must be new to this process.
        opt: compilation options.
    """

    def __init__(self, path: Path, library: Path, opt: str = "") -> None:
        registry = default_registry()
        device = registry.device("cpu")
        folder = ModelFolder.open(path)
        architecture = registry.architecture(folder.config.model_type)
        spec = ModelSpec.of(folder.config, architecture, opt)
        compile_library(spec, architecture, device, device.target(), library)
        compiled = CompiledLibrary(library, tvm.cpu())
        window = Window.choose(folder.config, compiled.metadata)
        self.vocab_size, self.context = folder.config.vocab_size, window.size
        parameters = load_parameters(compiled, folder, tvm.cpu(), Stop())
        create = compiled.function("create_tir_paged_kv_cache")
        self._cache = KVCache(create, window, compiled.metadata.kv_cache.page_size)
        self._embed = compiled.bound("embed", parameters)
        passes = ("prefill", "decode", "batch_prefill")
        self._passes = {name: compiled.bound(name, *parameters) for name in passes}

    def reset(self) -> None:
        """Empty the KV cache."""
        self._cache.clear()

    def every(self, ids: Sequence[int], first: int = 0) -> Logits:
        """Append ``ids`` in one pass; the logits after each but the first ``first`` of them."""
        positions = np.arange(first, len(ids), dtype=np.int32)
        return self._pass("batch_prefill", ids, tvm.runtime.tensor(positions))

    def prefill(self, ids: Sequence[int]) -> Logits:
        """Append ``ids`` in one pass, as a chat does; the logits after the last: (vocab_size,)."""
        return self._pass("prefill", ids)[0]

    def decode(self, token: int) -> Logits:
        """Append one token; the logits after it: (vocab_size,)."""
        return self._pass("decode", [token])[0]

    def greedy(self, prompt: Sequence[int], count: int) -> Iterator[int]:
        """The ``count`` likeliest tokens after a prompt."""
        self.reset()
        logits = self.prefill(prompt)
        for _ in range(count):
            token = int(logits.argmax())
            yield token
            logits = self.decode(token)

    def _pass(self, name: str, ids: Sequence[int], *more: Any) -> Logits:
        tokens = tvm.runtime.tensor(np.asarray(ids, np.int32))
        embeddings = self._embed(tokens)
        embeddings = embeddings._create_view((1, *embeddings.shape))
        logits, _ = self._passes[name](embeddings, *more, self._cache.begin(len(ids)))
        self._cache.end()
        rows: Logits = logits.numpy()[0, :, : self.vocab_size]
        return rows


def dequantized_folder(path: Path, output: Path) -> Path:
    """Write the model folder at ``path`` anew as ``q0f32``, each weight as it is stored."""
    output.mkdir()
    with ModelFolder.open(path) as folder, ShardWriter(output) as writer:
        for name, tensor in _tensors(folder):
            values = tensor.astype(np.float32)
            writer.add(name, values.shape, "float32", [values])
        manifest = writer.finish({})
        names = folder.config.tokenizer_files
    (output / MANIFEST_FILE).write_bytes(manifest.dump())
    config = json.loads((path / CHAT_CONFIG_FILE).read_text(encoding="utf-8"))
    config["quantization"] = "q0f32"
    (output / CHAT_CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
    for name in names:
        if (path / name).is_file():
            shutil.copy(path / name, output / name)
    return output


def _tensors(folder: ModelFolder) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
    """The folder's tensors, dequantised where they are quantised."""
    stored = scheme(folder.config.quantization)
    architecture = default_registry().architecture(folder.config.model_type)
    config = architecture.config(folder.config.architecture_config)
    module = architecture.module(config, stored.model_dtype)
    for name, parameter in module.named_parameters():
        stem = name.removesuffix(".weight")
        if f"{stem}.q_weight" in folder.manifest.tensors:
            codes, scales = folder.read(f"{stem}.q_weight"), folder.read(f"{stem}.q_scale")
            yield name, dequantize(codes, scales, parameter.shape[-1], stored)
        else:
            yield name, folder.read(name)
