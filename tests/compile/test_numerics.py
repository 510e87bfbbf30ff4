"""Compiled models against transformers on the same weights and token ids."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlc_llm.quantization import plan
from mlc_llm.quantization.packing import dequantize, quantize
from mlc_llm.registry.registry import default_registry
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.testing.workbench import context_window
from mlc_llm.weights.folder import ModelFolder

pytestmark = pytest.mark.matrix(
    name=["stories260k"],
    quantization=["q0f32", "q0f16", "q4f16_1"],
    geometry=["grouped 3:1, head 128", "ragged, head 80", "rope llama3"],
    opt=["activations=a8"],
)

Logits = Callable[[Sequence[int]], np.ndarray]

# A sliding window shorter than a page and than a prefill chunk, so that every edge is crossed.
WINDOW = 21
WIDE = {"context_window_size": 512}

GEOMETRIES: dict[str, dict[str, Any]] = {
    "multi-head 32": {"num_attention_heads": 4, "num_key_value_heads": 4},
    "grouped 4:1, head 64": {
        "hidden_size": 256,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 64,
    },
    "grouped 3:1, head 128": {
        "hidden_size": 192,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 128,
        "tie_word_embeddings": True,
    },
    "ragged, head 80": {
        "hidden_size": 160,
        "intermediate_size": 300,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 80,
        "vocab_size": 331,
    },
    "rope linear": {
        "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
    },
    "rope llama3": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    },
}


@pytest.fixture(scope="module")
def load(make_model: Any, make_library: Any) -> Callable[..., LoadedModel]:
    """Convert, compile and load a checkpoint; ``chunk`` limits a prefill step."""

    def load(
        checkpoint: Path,
        quantization: str,
        chunk: int = 2048,
        opt: str = "activations=a16",
        **sizes: int,
    ) -> LoadedModel:
        folder = make_model(checkpoint, quantization, **sizes)
        opened = ModelFolder.open(folder)
        registry = default_registry()
        architecture = registry.architecture(opened.config.model_type)
        window = context_window(opened, architecture, prefill_chunk_size=chunk)
        device = registry.device("cpu").open(0)
        return LoadedModel.load(make_library(folder, opt), opened, device, window)

    return load


def transformers_model(checkpoint: Path) -> Any:
    """The checkpoint in float32 with the plainest attention."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # its threads and TVM's would wait for each other's cores
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        transformers.utils.logging.disable_progress_bar()
        return transformers.AutoModelForCausalLM.from_pretrained(
            checkpoint, dtype=torch.float32, attn_implementation="eager"
        )


def reference(checkpoint: Path, quantization: str = "q0f32") -> Logits:
    """The last token's logits by transformers, on the weights as they are stored."""
    torch, model = pytest.importorskip("torch"), transformers_model(checkpoint)
    stored = plan(quantization)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            value = parameter.numpy()
            if value.ndim == 2 and not stored.linear.is_float:
                [scheme] = stored.schemes(name, embedding="embed" in name)
                value = dequantize(quantize(value, scheme), value.shape[1], scheme)
            parameter.copy_(torch.from_numpy(value.astype(stored.dtype).astype(np.float32)))

    def logits(ids: Sequence[int]) -> np.ndarray:
        with torch.no_grad():
            return model(torch.tensor([list(ids)])).logits[0, -1].numpy()

    return logits


def prompt(length: int, vocab_size: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(3, vocab_size, length).tolist()


def differences(model: LoadedModel, expected: Logits, ids: list[int], steps: int) -> list[float]:
    """The largest difference of the logits after the prompt and after each decoded token."""
    ids, found = list(ids), []
    ours, theirs = model.feed(ids), expected(ids)
    for _ in range(steps):
        found.append(float(np.abs(ours - theirs).max()))
        ids.append(int(theirs.argmax()))
        ours, theirs = model.decode(ids[-1]), expected(ids)
    return found


def greedy(model: LoadedModel, ids: list[int], count: int) -> list[int]:
    """The prompt and the ``count`` likeliest tokens after it."""
    ids, logits = list(ids), model.feed(ids)
    for _ in range(count):
        ids.append(int(logits.argmax()))
        logits = model.decode(ids[-1])
    return ids


def expected_greedy(checkpoint: Path, ids: list[int], count: int) -> list[int]:
    """The same by transformers."""
    torch = pytest.importorskip("torch")
    model = transformers_model(checkpoint)
    model.generation_config.eos_token_id = None  # so that nothing ends the text early
    return model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids)),
        do_sample=False,
        max_new_tokens=count,
        pad_token_id=0,
    )[0].tolist()


@pytest.mark.parametrize("name", ["stories260k", "babyllama"])
def test_a_trained_model_writes_the_same_200_tokens(
    request: pytest.FixtureRequest, load: Any, name: str
) -> None:
    checkpoint = request.getfixturevalue(name)
    model = load(checkpoint, "q0f32")
    for start in ([1], [1, *prompt(7, model.vocab_size, 1)], [1, *prompt(19, model.vocab_size, 2)]):
        assert greedy(model, start, 200) == expected_greedy(checkpoint, start, 200)


@pytest.mark.parametrize("name", ["stories260k", "babyllama"])
def test_a_trained_model_has_the_same_logits(
    request: pytest.FixtureRequest, load: Any, name: str
) -> None:
    checkpoint = request.getfixturevalue(name)
    model, expected = load(checkpoint, "q0f32"), reference(checkpoint)
    for length in (1, 15, 16, 17, 100):
        assert max(differences(model, expected, prompt(length, model.vocab_size), 8)) < 1e-4


# How far logits may be off, by quantisation: float32 with activations in 15 bits; the same with
# keys and values in float16, and so with every weight rounded to it.
TOLERANCE = {"q4f32_1": 1e-2, "q4f16_1": 8e-2, "q0f16": 8e-2}


@pytest.mark.parametrize("quantization", TOLERANCE)
@pytest.mark.parametrize("name", ["stories260k", "babyllama"])
def test_a_quantised_model_computes_with_the_dequantised_weights(
    request: pytest.FixtureRequest, load: Any, name: str, quantization: str
) -> None:
    checkpoint = request.getfixturevalue(name)
    model, expected = load(checkpoint, quantization), reference(checkpoint, quantization)
    for length in (1, 17, 100):
        found = differences(model, expected, prompt(length, model.vocab_size), 8)
        assert max(found) < TOLERANCE[quantization]


@pytest.mark.parametrize("opt", ["activations=mixed", "activations=a8"])
@pytest.mark.parametrize("name", ["stories260k", "babyllama"])
def test_activations_in_8_bits_move_the_logits_a_little(
    request: pytest.FixtureRequest, load: Any, name: str, opt: str
) -> None:
    """By at most 4 % of their size, where the distance between prompts is of their size."""
    checkpoint = request.getfixturevalue(name)
    model, expected = load(checkpoint, "q4f32_1", opt=opt), reference(checkpoint, "q4f32_1")
    for length in (1, 17, 100):
        ids = prompt(length, model.vocab_size)
        ours, theirs = model.feed(ids), expected(ids)
        assert np.linalg.norm(ours - theirs) < 0.04 * np.linalg.norm(theirs)


@pytest.mark.parametrize(("hidden", "same"), [(64, "a16"), (1024, "mixed")])
def test_small_models_read_prompts_in_16_bits(
    make_checkpoint: Any, load: Any, hidden: int, same: str
) -> None:
    """Unless an option says otherwise; to the bit."""
    checkpoint = make_checkpoint("llama", hidden_size=hidden, num_hidden_layers=1)
    ids = prompt(17, 300)
    unset, set_so = (
        np.array(load(checkpoint, "q4f32_1", opt=opt).feed(ids))
        for opt in ("", f"activations={same}")
    )
    np.testing.assert_array_equal(unset, set_so)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_random_llamas(make_checkpoint: Any, load: Any, geometry: str) -> None:
    checkpoint = make_checkpoint("llama", **GEOMETRIES[geometry])
    expected, model = reference(checkpoint), load(checkpoint, "q0f32", chunk=13)
    assert max(differences(model, expected, prompt(75, 300), 20)) < 1e-4


@pytest.mark.parametrize("quantization", ["q0f32", "q4f32_1"])
@pytest.mark.parametrize("chunk", [2048, 13, 1])
def test_mistral_past_its_sliding_window(
    make_checkpoint: Any, load: Any, quantization: str, chunk: int
) -> None:
    checkpoint = make_checkpoint("mistral", sliding_window=WINDOW)
    expected, model = (
        reference(checkpoint, quantization),
        load(checkpoint, quantization, chunk, **WIDE),
    )
    found = differences(model, expected, prompt(3 * WINDOW, 300), 2 * WINDOW)
    assert max(found) < {"q0f32": 1e-4, "q4f32_1": 1e-2}[quantization]


def test_going_back_past_the_sliding_window(make_checkpoint: Any, load: Any) -> None:
    """What was before the window is seen again once the tokens after it are dropped."""
    checkpoint = make_checkpoint("mistral", sliding_window=WINDOW)
    expected, model = reference(checkpoint), load(checkpoint, "q0f32", 13, **WIDE)
    ids = prompt(4 * WINDOW, 300)
    model.feed(ids)
    fed = model.metrics.prefill.tokens
    other = [*ids[:WINDOW], *prompt(9, 300, seed=1)]
    assert max(differences(model, expected, other, 3)) < 1e-4
    assert model.metrics.prefill.tokens - fed == 9


def test_the_window_matters(make_checkpoint: Any, load: Any) -> None:
    """Without it the logits differ by far more than the tolerance, so the tests above can fail."""
    sliding = make_checkpoint("mistral", sliding_window=WINDOW)
    wide = make_checkpoint("mistral", sliding_window=None)
    ids = prompt(3 * WINDOW, 300)
    assert np.abs(reference(sliding)(ids) - reference(wide)(ids)).max() > 1e-2


def test_two_fine_tunes_share_one_library(
    make_checkpoint: Any, make_model: Any, make_library: Any, load: Any
) -> None:
    """Other weights, and a vocabulary of another size, of one shape and quantisation."""
    first = make_checkpoint("llama", seed=1)
    second = make_checkpoint("llama", seed=2, vocab_size=333)
    libraries = {make_library(make_model(checkpoint, "q0f32")) for checkpoint in (first, second)}
    assert len(libraries) == 1
    for checkpoint in (first, second):
        found = differences(load(checkpoint, "q0f32"), reference(checkpoint), prompt(20, 300), 3)
        assert max(found) < 1e-4
