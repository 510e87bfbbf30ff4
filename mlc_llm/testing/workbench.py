"""Where a suite converts, compiles and loads small models, each of them once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mlc_llm.config import ChatConfig
from mlc_llm.library.cache import LibraryCache
from mlc_llm.plugin import Architecture, Device, LibraryRequest, ModelSpec, Plan
from mlc_llm.plugin.model_library import config_of
from mlc_llm.quantization import folder_plan
from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.testing.libraries import effective, library_once
from mlc_llm.testing.model_folder import convert_checkpoint, make_checkpoint
from mlc_llm.testing.reference import Logits
from mlc_llm.testing.registry import registry_of
from mlc_llm.weights.folder import ModelFolder

PREFILL_CHUNK = 13
"""Tokens of a prefill step: few, so that prompts take several, and no divisor of a cache's page."""

PROMPTS = (1, 15, 16, 17, 50)
"""Lengths of prompts: a decode step, around a page of the KV cache, and several chunks."""

DECODED = 4
"""Tokens that are decoded after a prompt."""


_ACCURATE = {"cpu": "activations=a16"}
"""Compilation options with which a device computes most exactly, where its defaults are others: it
is compared with a reference, or is one."""


class Workbench:
    """Converted, compiled and loaded small models in a temporary folder.

    Args:
        folder: the temporary folder.
        libraries: where libraries are kept; by default in the folder. See
            :func:`~mlc_llm.testing.libraries.run_libraries`.
    """

    def __init__(self, folder: Path, libraries: LibraryCache | None = None) -> None:
        self.folder = folder
        self._cache = libraries or LibraryCache(folder / "libraries")
        self._libraries: dict[tuple[str, str], Path] = {}

    def checkpoint(self) -> Path:
        """The small model's checkpoint."""
        path = self.folder / "checkpoint"
        return path if path.is_dir() else make_checkpoint(path)

    def convert(
        self, checkpoint: Path, quantization: str | Plan, architecture: Architecture
    ) -> Path:
        """Convert a checkpoint, once; the architecture need not be installed."""
        name = quantization if isinstance(quantization, str) else quantization.name
        path = self.folder / f"{checkpoint.name}-{name}-MLC"
        if not path.is_dir():
            registry = registry_of(architectures={architecture.name: architecture})
            convert_checkpoint(checkpoint, path, quantization, registry=registry)
        return path

    def request(self, folder: Path, architecture: Architecture, device: Device) -> LibraryRequest:
        """The request for a model folder's library."""
        config = ModelFolder.open(folder).config
        plan = folder_plan(config)
        opt = effective(_ACCURATE.get(device.name, ""), plan)
        spec = ModelSpec.of(config, architecture, plan, opt)
        return LibraryRequest(spec, device.name, device.target(), folder)

    def library(self, folder: Path, architecture: Architecture, device: Device) -> Path:
        """Compile a model folder's library in this process, once for each shape and device."""
        request = self.request(folder, architecture, device)
        key = (device.name, request.spec.digest())
        if key not in self._libraries:
            self._libraries[key] = library_once(self._cache, request, architecture, device)
        return self._libraries[key]

    def load(self, folder: Path, architecture: Architecture, device: Device) -> LoadedModel:
        """Compile and load a model on a device's first adapter, in this thread."""
        library = self.library(folder, architecture, device)
        opened = ModelFolder.open(folder)
        window = context_window(opened, architecture, prefill_chunk_size=PREFILL_CHUNK)
        handle = device.open(0)
        capture = partial(device.capture, handle)
        return LoadedModel.load(library, opened, handle, window, capture=capture)


def context_window(folder: ModelFolder, architecture: Architecture, **config: Any) -> ContextWindow:
    """The sizes of a model's KV cache, with any fields of ``ChatConfig``."""
    file = folder.config.overlaid(ChatConfig(**config))
    return ContextWindow.choose(file, config_of(file, architecture))


def replay(model: LoadedModel) -> Logits:
    """A loaded model as a function from all token ids to logits, each call from the start."""

    def logits(ids: Sequence[int]) -> np.ndarray:
        model.reset()
        return np.array(model.feed(list(ids)))

    return logits


def prompt(length: int, vocab_size: int, seed: int = 0) -> list[int]:
    """Random token ids that are not the first three, which are special."""
    ids: list[int] = np.random.default_rng(seed).integers(3, vocab_size, length).tolist()
    return ids


def largest_error(model: LoadedModel, expected: Logits) -> tuple[float, str]:
    """Feed prompts of several lengths and decode; compare all logits with the expected ones.

    Returns:
        The largest difference of two logits, in standard deviations of the expected ones, and
        where it is. Infinity where a logit is not finite.
    """
    worst, place = 0.0, "nowhere"
    for length in PROMPTS:
        ids = prompt(length, model.vocab_size, seed=length)
        # The next prompt shares nothing with this one, so the cache goes back to empty.
        found = np.array(model.feed(ids))
        for step in range(DECODED + 1):
            wanted = np.asarray(expected(ids), dtype=np.float32)[: model.vocab_size]
            error = _error(found, wanted)
            if error > worst:
                worst = error
                place = f"{step} decoded tokens after a prompt of {length} tokens"
            ids.append(int(wanted.argmax()))
            found = np.array(model.decode(ids[-1]))
    return worst, place


def _error(found: np.ndarray, wanted: np.ndarray) -> float:
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - wanted).max() / wanted.std())
