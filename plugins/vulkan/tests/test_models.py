"""Whole models on Vulkan against the CPU device: the same logits, the same greedy text.

Chats are tested in `test_use.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from mlc_llm_vulkan import DEVICE

from mlc_llm.device.cpu import CPU
from mlc_llm.plugin import Device
from mlc_llm.registry.registry import default_registry
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.testing import DeviceConformance
from mlc_llm.testing.workbench import context_window
from mlc_llm.weights.folder import ModelFolder

pytestmark = [
    pytest.mark.usefixtures("vulkan"),
    pytest.mark.matrix(quantization=["q0f32", "q4f16_1"], name=["stories260k"]),
]

Load = Callable[..., tuple[LoadedModel, LoadedModel]]

# In standard deviations of the CPU's logits. The CPU rounds activations of 4-bit matmuls to 15
# bits; with float16, Vulkan keeps activations in it and the CPU does not.
TOLERANCE = {"q0f32": 1e-4, "q4f32_1": 5e-3, "q0f16": 3e-2, "q4f16_1": 3e-2}

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 100,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
WINDOW = 21


class TestConformance(DeviceConformance):
    """What every device must do."""

    device = DEVICE
    tolerances: ClassVar = TOLERANCE


@pytest.fixture(scope="module")
def load(make_model: Any, make_library: Any) -> Load:
    """Convert and compile a checkpoint, and load it on Vulkan and on the CPU."""

    def library(folder: Path, device: Device) -> Path:
        # The CPU is the reference: as exact as it can be.
        opt = "activations=a16" if device is CPU else ""
        path: Path = make_library(folder, opt, device=device.name)
        return path

    def load(
        checkpoint: Path, quantization: str, chunk: int = 2048, **sizes: int
    ) -> tuple[LoadedModel, LoadedModel]:
        folder = make_model(checkpoint, quantization, **sizes)
        opened = ModelFolder.open(folder)
        architecture = default_registry().architecture(opened.config.model_type)
        window = context_window(opened, architecture, prefill_chunk_size=chunk)
        vulkan, cpu = (
            LoadedModel.load(library(folder, device), opened, device.open(0), window)
            for device in (DEVICE, CPU)
        )
        return vulkan, cpu

    return load


def prompt(length: int, vocab_size: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(3, vocab_size, length).tolist()


def greedy(model: LoadedModel, ids: list[int], count: int) -> list[int]:
    """The ``count`` likeliest tokens after a prompt."""
    logits, answer = model.feed(ids), []
    for _ in range(count):
        answer.append(int(logits.argmax()))
        logits = model.decode(answer[-1])
    return answer


def difference(models: tuple[LoadedModel, LoadedModel], ids: list[int], decoded: int = 3) -> float:
    """The largest difference of logits after a prompt and some decoded tokens."""
    vulkan, cpu = models
    ids, worst = list(ids), 0.0
    for _ in range(decoded + 1):
        found, wanted = np.array(vulkan.feed(ids)), np.array(cpu.feed(ids))
        worst = max(worst, float(np.abs(found - wanted).max() / wanted.std()))
        ids.append(int(wanted.argmax()))
    return worst


@pytest.mark.parametrize("name", ["stories260k", "babyllama"])
def test_a_trained_model_writes_the_cpus_text(
    request: pytest.FixtureRequest, load: Load, name: str
) -> None:
    vulkan, cpu = load(request.getfixturevalue(name), "q0f32")
    for start in ([1], [1, *prompt(19, cpu.vocab_size)]):
        assert greedy(vulkan, start, 60) == greedy(cpu, start, 60)


@pytest.mark.slow
def test_a_trained_model_in_4_bits_writes_the_cpus_text(stories260k: Path, load: Load) -> None:
    vulkan, cpu = load(stories260k, "q4f16_1")
    assert greedy(vulkan, [1], 40) == greedy(cpu, [1], 40)


@pytest.mark.matrix(quantization=["q0f32"])
@pytest.mark.parametrize("quantization", TOLERANCE)
def test_mistral_past_its_sliding_window(
    make_checkpoint: Any, load: Load, quantization: str
) -> None:
    """Prefill in chunks and decoding; the conformance suite does the same with a llama."""
    checkpoint = make_checkpoint("mistral", sliding_window=WINDOW, **SMALL)
    models = load(checkpoint, quantization, 13, context_window_size=512)
    assert difference(models, prompt(3 * WINDOW, 300)) < TOLERANCE[quantization]


@pytest.mark.slow
def test_sinks_stay_in_sight(make_checkpoint: Any, load: Load) -> None:
    checkpoint = make_checkpoint("mistral", sliding_window=WINDOW, **SMALL)
    sizes = {"context_window_size": 512, "attention_sink_size": 4}
    models = load(checkpoint, "q0f32", 13, **sizes)
    ids = prompt(3 * WINDOW, 300)
    assert difference(models, ids) < TOLERANCE["q0f32"]
    other, _ = load(checkpoint, "q0f32", 13, context_window_size=512)
    assert np.abs(other.feed(ids) - models[0].feed(ids)).max() > 1e-2


@pytest.mark.slow
def test_an_odd_geometry(make_checkpoint: Any, load: Load) -> None:
    """Groups of three heads, wide ones; rows that end within a word; scaled RoPE."""
    geometry = {
        "hidden_size": 102,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 80,
        "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0},
    }
    models = load(make_checkpoint("llama", **{**SMALL, **geometry}), "q4f32_1")
    assert difference(models, prompt(40, 300)) < TOLERANCE["q4f32_1"]


def test_turns_reuse_the_cache_and_go_back(make_checkpoint: Any, load: Load) -> None:
    vulkan, cpu = load(make_checkpoint("llama", **SMALL), "q0f32", 13)
    ids = prompt(40, 300)
    vulkan.feed(ids)
    fed = vulkan.metrics.prefill.tokens
    longer, other = [*ids, *prompt(9, 300, 1)], [*ids[:21], *prompt(5, 300, 2)]
    # The 40th token was decoded for its logits, and is prefilled as a part of the longer prompt.
    for wanted, new in ((longer, 10), (other, 5)):
        found = np.array(vulkan.feed(wanted))
        np.testing.assert_allclose(found, cpu.feed(wanted), rtol=0, atol=1e-3)
        assert vulkan.metrics.prefill.tokens - fed == new
        fed = vulkan.metrics.prefill.tokens


def test_embeddings(make_checkpoint: Any, load: Load) -> None:
    vulkan, cpu = load(make_checkpoint("llama", **SMALL), "q0f32", 13)
    np.testing.assert_array_equal(vulkan.embed([5, 299, 5]), cpu.embed([5, 299, 5]))
