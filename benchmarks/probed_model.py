"""A compiled model that gives the logits of every position, and its weights in plain float32."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tvm

from mlc_llm.compile import compile_library
from mlc_llm.config import CHAT_CONFIG_FILE
from mlc_llm.model.module import named_parameters
from mlc_llm.model.stored import stored_weights
from mlc_llm.plugin import ModelSpec
from mlc_llm.quantization import folder_plan
from mlc_llm.quantization.packing import dequantize
from mlc_llm.registry.registry import default_registry
from mlc_llm.runtime.compiled_library import CompiledLibrary
from mlc_llm.runtime.engine import Stop
from mlc_llm.runtime.kv_cache import KVCache
from mlc_llm.runtime.model_functions import ModelFunctions
from mlc_llm.runtime.parameters import load_parameters
from mlc_llm.runtime.sequence import Run
from mlc_llm.testing.workbench import context_window
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
        spec = ModelSpec.of(folder.config, architecture, folder_plan(folder.config), opt)
        compile_library(spec, architecture, device, device.target(), library)
        compiled = CompiledLibrary(library, tvm.cpu())
        window = context_window(folder, architecture)
        self.vocab_size, self.context = folder.config.vocab_size, window.size
        parameters = load_parameters(compiled, folder, tvm.cpu(), Stop())
        self._functions = ModelFunctions(compiled, parameters, tvm.cpu(), self.vocab_size)
        cache = KVCache(compiled.metadata.kv_cache, window.size, window.size, tvm.cpu())
        self._functions.use(cache)
        self._sequence = cache.add()

    def reset(self) -> None:
        """Empty the KV cache."""
        self._sequence.truncate(0)

    def every(self, ids: Sequence[int], first: int = 0) -> Logits:
        """Append ``ids`` in one pass; the logits after each but the first ``first`` of them."""
        return self._functions.score([Run(self._sequence, ids)], range(first, len(ids)))

    def prefill(self, ids: Sequence[int]) -> Logits:
        """Append ``ids`` as a chat does; the logits after the last: (vocab_size,)."""
        if len(ids) > 1:
            self._functions.prefill([Run(self._sequence, ids[:-1])])
        return self.decode(ids[-1])

    def decode(self, token: int) -> Logits:
        """Append one token; the logits after it: (vocab_size,)."""
        logits: Logits = self._functions.decode([Run(self._sequence, (token,))])[0]
        return logits

    def greedy(self, prompt: Sequence[int], count: int) -> Iterator[int]:
        """The ``count`` likeliest tokens after a prompt."""
        self.reset()
        logits = self.prefill(prompt)
        for _ in range(count):
            token = int(logits.argmax())
            yield token
            logits = self.decode(token)


def dequantized_folder(path: Path, output: Path) -> Path:
    """Write the model folder at ``path`` again as ``q0f32``, each weight as it is stored."""
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
    plan = folder_plan(folder.config)
    architecture = default_registry().architecture(folder.config.model_type)
    config = architecture.config(folder.config.architecture_config)
    module = architecture.module(config)
    weights = {weight.name: weight for weight in stored_weights(module, plan)}
    for name in named_parameters(module):
        weight = weights.get(name)
        if weight is None or weight.parts[0][1].is_float:
            yield name, folder.read(name)
        else:
            [(_, scheme)] = weight.parts
            stored = [folder.read(tensor.name) for tensor in weight.tensors]
            yield name, dequantize(stored, weight.columns, scheme)
