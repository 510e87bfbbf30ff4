"""The architecture of ``examples/plugins`` on the CPU in every quantisation, against transformers.

The model of transformers has the weights as they come back from the converted folder, so that what
is compared is the computation and not the rounding of weights. Keys and values are rounded to the
dtype of the KV cache.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.plugins.architecture.mlc_llm_opt import OPT
from mlc_llm.device.cpu import CPU
from mlc_llm.library.cache import LibraryCache
from mlc_llm.model.stored import StoredWeight, stored_weights
from mlc_llm.quantization import PLANS, folder_plan, plan
from mlc_llm.quantization.packing import dequantize
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.sources.safetensors_file import read_header
from mlc_llm.testing import raises
from mlc_llm.testing.model_folder import copy_checkpoint
from mlc_llm.testing.reference import Logits
from mlc_llm.testing.workbench import Workbench, largest_error, prompt
from mlc_llm.weights.folder import ModelFolder

pytestmark = pytest.mark.matrix(quantization=["q0f32"])

ARCHITECTURE = OPT()

TOLERANCE = {"q0f32": 5e-5, "q0f16": 5e-4, "q4f32_1": 2e-3}
"""Of a logit, in standard deviations. In float32 they agree to 3e-6; keys and values that are
rounded to the other neighbour in float16 make 2e-4 of it. The rest have 5e-3: there activations are
rounded, too, to 15 bits."""

SAME_TEXT = ("q0f16", "q0f32", "q8f16_16", "q8f16_32")
ANSWER = 40


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory, libraries: LibraryCache) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("opt"), libraries)


@pytest.fixture(scope="module")
def checkpoint(workbench: Workbench, save_random_opt: Callable[..., Path]) -> Path:
    return save_random_opt(workbench.folder / "opt", num_hidden_layers=2)


def come_back(folder: ModelFolder) -> dict[str, np.ndarray]:
    """The parameters that a model folder holds, in float32, as a checkpoint has them."""
    config = ARCHITECTURE.config(folder.config.architecture_config)
    module = ARCHITECTURE.module(config)
    matrices = {
        weight.name: weight for weight in stored_weights(module, folder_plan(folder.config))
    }
    values = {}
    for weight in ARCHITECTURE.weights(config):
        if weight.name in matrices:
            value = matrix_of(folder, matrices[weight.name])
        else:
            value = folder.read(weight.name).astype(np.float32)
        # Query, key and value, which are joined, have as many rows each.
        values |= zip(weight.sources, np.split(value, len(weight.sources)), strict=True)
    return values


def matrix_of(folder: ModelFolder, weight: StoredWeight) -> np.ndarray:
    """A matrix, of which each part may be stored in another scheme."""
    parts = [
        dequantize([folder.read(tensor.name) for tensor in tensors], weight.columns, scheme)
        for (_, scheme), tensors in zip(weight.parts, weight.part_tensors, strict=True)
    ]
    return np.concatenate(parts)


@pytest.fixture(scope="module", params=PLANS)
def quantization(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(workbench: Workbench, checkpoint: Path, quantization: str) -> Path:
    return workbench.convert(checkpoint, quantization, ARCHITECTURE)


@pytest.fixture(scope="module")
def model(workbench: Workbench, folder: Path) -> LoadedModel:
    return workbench.load(folder, ARCHITECTURE, CPU)


@pytest.fixture(scope="module")
def reference(
    checkpoint: Path, folder: Path, quantization: str, transformers: Any, torch: Any
) -> Logits:
    model = load_reference(checkpoint, transformers)
    values = come_back(ModelFolder.open(folder))
    state = {name: torch.from_numpy(np.array(value)) for name, value in values.items()}
    lost = model.load_state_dict(state, strict=False)
    assert (lost.missing_keys, lost.unexpected_keys) == (["lm_head.weight"], [])  # which is tied
    dtype = getattr(torch, plan(quantization).dtype)

    def rounded(layer: Any, x: Any, y: Any) -> Any:
        return y.to(dtype).float()

    for block in model.model.decoder.layers:
        block.self_attn.k_proj.register_forward_hook(rounded)
        block.self_attn.v_proj.register_forward_hook(rounded)
    return last_logits(model, torch)


def load_reference(checkpoint: Path, transformers: Any) -> Any:
    """The model of transformers in float32, which computes attention as its file says."""
    return transformers.OPTForCausalLM.from_pretrained(
        checkpoint, dtype="float32", attn_implementation="eager"
    )


def last_logits(model: Any, torch: Any) -> Logits:
    def logits(ids: Any) -> np.ndarray:
        with torch.no_grad():
            return model(torch.tensor([list(ids)])).logits[0, -1].numpy()

    return logits


def test_logits(model: LoadedModel, reference: Logits, quantization: str) -> None:
    """Of prompts in chunks and of decoded tokens."""
    error, place = largest_error(model, reference)
    assert error < TOLERANCE.get(quantization, 5e-3), place


@pytest.mark.parametrize("quantization", SAME_TEXT, indirect=True)
def test_greedy_text(model: LoadedModel, reference: Logits) -> None:
    ids = prompt(20, 300)
    logits = model.feed(ids)
    for _ in range(ANSWER):
        assert int(logits.argmax()) == int(reference(ids).argmax())
        ids.append(int(logits.argmax()))
        logits = model.decode(ids[-1])


def test_tensors_of_other_files(workbench: Workbench, checkpoint: Path) -> None:
    """Without a prefix, with a version, and with the head beside the table."""
    tensors = {n: t.read() for n, t in read_header(checkpoint / "model.safetensors").items()}
    other = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    other["decoder.version"] = np.ones(1, np.float32)
    head = {"lm_head.weight": other["decoder.embed_tokens.weight"]}
    copy = copy_checkpoint(checkpoint, workbench.folder / "other", {**other, **head})
    converted = [workbench.convert(one, "q0f32", ARCHITECTURE) for one in (checkpoint, copy)]
    values, same = (come_back(ModelFolder.open(folder)) for folder in converted)
    assert list(values) == list(same)
    assert all(np.array_equal(values[name], same[name]) for name in values)
    head["lm_head.weight"] = head["lm_head.weight"] + 1
    copy = copy_checkpoint(checkpoint, workbench.folder / "untied", {**other, **head})
    with raises("head-not-tied", "lm_head.weight"):
        workbench.convert(copy, "q0f32", ARCHITECTURE)
