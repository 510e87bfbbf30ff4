"""OPT, an architecture that only its own file knows, on Vulkan in every quantisation.

`tests/examples/test_opt.py` compares the CPU device with transformers, and here Vulkan is compared
with the CPU.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mlc_llm_vulkan import DEVICE

from examples.plugins.architecture.mlc_llm_opt import OPT
from mlc_llm.compile.gpu.schemes import has_scheme
from mlc_llm.device.cpu import CPU
from mlc_llm.library.cache import LibraryCache
from mlc_llm.model.module import named_parameters
from mlc_llm.quantization import PLANS
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.testing.model_folder import save_tensors, write_byte_tokenizer
from mlc_llm.testing.workbench import Workbench, largest_error, prompt, replay

pytestmark = [
    pytest.mark.usefixtures("vulkan"),
    pytest.mark.matrix(quantization=["q0f32"]),
]

CONFIG = {
    "model_type": "opt",
    "hidden_size": 60,
    "num_attention_heads": 3,
    "ffn_dim": 100,
    "num_hidden_layers": 2,
    "max_position_embeddings": 128,
    "vocab_size": 320,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ARCHITECTURE = OPT()

# In standard deviations of the CPU's logits, as in test_models.py.
TOLERANCE = {"q0f32": 1e-4, "q4f32_1": 5e-3}
FLOAT16 = 3e-2
SAME_TEXT = ("q0f32", "q4f32_1")
"""In float16, two logits may be closer to each other than they are rounded."""


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory, libraries: LibraryCache) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("opt"), libraries)


@pytest.fixture(scope="module")
def checkpoint(workbench: Workbench) -> Path:
    """A random checkpoint in Hugging Face's layout, with biases and norms that count."""
    folder, random = workbench.folder / "opt", np.random.default_rng(0)
    config = ARCHITECTURE.config(CONFIG)
    parameters = named_parameters(ARCHITECTURE.module(config))
    tensors = {}
    for weight in ARCHITECTURE.weights(config):
        shape = [
            config.vocab_size if size == "vocab_size" else int(size)
            for size in parameters[weight.name].shape
        ]
        around = 1.0 if weight.name.endswith("layer_norm.weight") else 0.0
        value = around + 0.2 * random.standard_normal(shape, np.float32)
        # Query, key and value, which are joined, have as many rows each.
        tensors |= zip(weight.sources, np.split(value, len(weight.sources)), strict=True)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_tensors(folder / "model.safetensors", tensors)
    write_byte_tokenizer(folder / "tokenizer.json", config.vocab_size)
    return folder


@pytest.fixture(
    scope="module",
    params=[name for name, plan in PLANS.items() if all(map(has_scheme, plan.all_schemes()))],
)
def quantization(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def models(
    workbench: Workbench, checkpoint: Path, quantization: str
) -> tuple[LoadedModel, LoadedModel]:
    """The model on Vulkan and on the CPU."""
    folder = workbench.convert(checkpoint, quantization, ARCHITECTURE)
    vulkan, cpu = (workbench.load(folder, ARCHITECTURE, device) for device in (DEVICE, CPU))
    return vulkan, cpu


def test_logits(models: tuple[LoadedModel, LoadedModel], quantization: str) -> None:
    """Of prompts in chunks and of decoded tokens."""
    vulkan, cpu = models
    error, place = largest_error(vulkan, replay(cpu))
    assert error < TOLERANCE.get(quantization, FLOAT16), place


@pytest.mark.parametrize("quantization", SAME_TEXT, indirect=True)
def test_greedy_text(models: tuple[LoadedModel, LoadedModel]) -> None:
    texts = []
    for model in models:
        logits, answer = model.feed(prompt(20, 300)), []
        for _ in range(40):
            answer.append(int(logits.argmax()))
            logits = model.decode(answer[-1])
        texts.append(answer)
    assert texts[0] == texts[1]
