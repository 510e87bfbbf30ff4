"""The architecture of ``examples/plugins`` on the CPU in every quantisation, against transformers.

The model of transformers has the weights as they come back from the converted folder, so that what
is compared is the computation and not the rounding of weights. Keys and values are rounded to the
dtype of the KV cache.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.plugins.architecture.mlc_llm_gpt2 import GPT2
from mlc_llm.device.cpu import CPU
from mlc_llm.library.cache import LibraryCache
from mlc_llm.model.module import named_parameters
from mlc_llm.model.stored import stored_parameters, stored_weights
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

ARCHITECTURE = GPT2()

TOLERANCE = {"q0f32": 5e-5, "q0f16": 1e-4, "q4f32_1": 2e-3}
"""Of a logit, in standard deviations. The others have 5e-3: activations are rounded to 15 bits, and
a key or a value that is then rounded to another float16 differs by more."""

SAME_TEXT = ("q0f16", "q0f32", "q8f16_16", "q8f16_32")
ANSWER = 40


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory, libraries: LibraryCache) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("gpt2"), libraries)


@pytest.fixture(scope="module")
def checkpoint(workbench: Workbench, save_random_gpt2: Callable[..., Path]) -> Path:
    return save_random_gpt2(workbench.folder / "gpt2", n_layer=2, n_inner=100)


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
            matrix = matrices[weight.name]
            [(_, scheme)] = matrix.parts
            tensors = [folder.read(tensor.name) for tensor in matrix.tensors]
            value = dequantize(tensors, matrix.columns, scheme)
        else:
            value = folder.read(weight.name).astype(np.float32)
        # What is made is made by transposing, which is its own inverse.
        values[weight.name] = value if weight.make is None else weight.make(value)
    return values


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

    def round_keys_and_values(layer: Any, x: Any, qkv: Any) -> Any:
        query, *others = qkv.chunk(3, dim=-1)
        return torch.cat([query, *(other.to(dtype).float() for other in others)], dim=-1)

    for block in model.transformer.h:
        block.attn.c_attn.register_forward_hook(round_keys_and_values)
    return last_logits(model, torch)


def load_reference(checkpoint: Path, transformers: Any) -> Any:
    """The model of transformers in float32, which computes attention as its file says."""
    return transformers.GPT2LMHeadModel.from_pretrained(
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


def test_fields_that_change_what_is_computed(
    workbench: Workbench, save_random_gpt2: Callable[..., Path], transformers: Any, torch: Any
) -> None:
    checkpoint = save_random_gpt2(
        workbench.folder / "gpt2-fields",
        scale_attn_weights=False,
        scale_attn_by_inverse_layer_idx=True,
        activation_function="gelu",
        layer_norm_epsilon=0.1,
        reorder_and_upcast_attn=True,  # which changes what is rounded, and only in float16
    )
    folder = workbench.convert(checkpoint, "q0f32", ARCHITECTURE)
    model = workbench.load(folder, ARCHITECTURE, CPU)
    expected = last_logits(load_reference(checkpoint, transformers), torch)
    error, place = largest_error(model, expected)
    assert error < TOLERANCE["q0f32"], place


def test_tensors_of_older_files(workbench: Workbench, checkpoint: Path) -> None:
    """Without a prefix, with causal masks, and with the head beside the table."""
    tensors = {n: t.read() for n, t in read_header(checkpoint / "model.safetensors").items()}
    older = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    masks = {f"h.{layer}.attn.bias": np.tri(128, dtype=np.float32) for layer in range(2)}
    head = {"lm_head.weight": older["wte.weight"]}
    copy = copy_checkpoint(checkpoint, workbench.folder / "older", {**older, **masks, **head})
    converted = [workbench.convert(one, "q0f32", ARCHITECTURE) for one in (checkpoint, copy)]
    values, same = (come_back(ModelFolder.open(folder)) for folder in converted)
    assert list(values) == list(same)
    assert all(np.array_equal(values[name], same[name]) for name in values)
    other = {**older, "lm_head.weight": older["wte.weight"] + 1}
    copy = copy_checkpoint(checkpoint, workbench.folder / "untied", other)
    with raises("head-not-tied", "lm_head.weight"):
        workbench.convert(copy, "q0f32", ARCHITECTURE)


@pytest.mark.matrix
@pytest.mark.parametrize("quantization", ["q0f16", "q4f16_1", "q3f16_1"])
def test_parameters_are_those_of_mlc(test_data: Path, quantization: str) -> None:
    """Names, shapes, dtypes and order, but that MLC stores the tied head a second time."""
    models = json.loads((test_data / "families" / "gpt2.json").read_text())["models"]
    config = ARCHITECTURE.config(models["gpt2"]["config"])
    described = models["gpt2"][quantization]["parameters"]
    layer = [one for one in described if "{i}" in one[0]]
    begin = described.index(layer[0])
    layers = [
        [name.format(i=index), *others]
        for index in range(config.num_hidden_layers)
        for name, *others, _ in layer
    ]
    expected = [*described[:begin], *layers, *described[begin + len(layer) :]]
    module = ARCHITECTURE.module(config)
    found = [
        [t.name, list(t.shape), t.dtype] for t in stored_parameters(module, plan(quantization))
    ]
    assert found == [one for one in expected if not one[0].startswith("lm_head.")]
    assert list(named_parameters(module)) == [w.name for w in ARCHITECTURE.weights(config)]
