"""Models whose layers attend in different ways, compiled for the CPU, against other code.

Where transformers computes a kind of attention, its classes do, each layer's in a Llama of theirs,
or a whole model. The rest is NumPy in float64, which is compared with transformers where it can be.
Several sequences of one model are tested in `test_batches.py`, kernels in `tests/device/cpu`.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from mlc_llm.device.cpu import CPU
from mlc_llm.library.cache import LibraryCache
from mlc_llm.plugin import AttentionSpec
from mlc_llm.runtime.sequence import Run
from mlc_llm.testing import attention_checks as checks
from mlc_llm.testing.attention_checks import Expected
from mlc_llm.testing.attention_kinds import (
    EPSILON,
    HIDDEN,
    INNER,
    KINDS,
    LENGTH,
    VOCABULARY,
    WINDOW,
    AttentionKind,
    AttentionReference,
    every_kind,
    random_weights,
)
from mlc_llm.testing.attention_models import KindModel, kind_library
from mlc_llm.testing.workbench import prompt

# A model with a layer of every kind is quicker to compile than a model of each, which are slow. Not
# in it is where learned positions begin.
pytestmark = pytest.mark.matrix(name=["learned positions from 2"])

# Longer than two pieces of a decode and a window, so that what is between sink and window is
# skipped, and no multiple of a page or a chunk.
IDS = prompt(601, VOCABULARY)


@dataclass(frozen=True)
class Theirs:
    """The attention of one of transformers' families.

    Args:
        family: of which module.
        name: what its classes' names begin with.
        rope: the position embedding.
        fields: more fields of its config.
    """

    family: str = "llama"
    name: str = "Llama"
    rope: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)

    def config(self, transformers: Any, spec: AttentionSpec, layers: int = 1) -> Any:
        """A config with the sizes of a description."""
        return getattr(transformers, f"{self.name}Config")(
            **SIZES,
            num_hidden_layers=layers,
            num_attention_heads=spec.query_heads,
            num_key_value_heads=spec.kv_heads,
            head_dim=spec.key_size,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, **self.rope},
            attn_implementation="eager",
            **self.fields,
        )

    def classes(self) -> tuple[Any, Any]:
        """The classes of the attention and of its position embedding."""
        module = importlib.import_module(
            f"transformers.models.{self.family}.modeling_{self.family}"
        )
        return getattr(module, f"{self.name}Attention"), getattr(
            module, f"{self.name}RotaryEmbedding"
        )


SIZES = {
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "vocab_size": VOCABULARY,
    "rms_norm_eps": EPSILON,
    "max_position_embeddings": LENGTH,
    "tie_word_embeddings": False,
    "pad_token_id": None,
}
LLAMA = Theirs()
BARE = Theirs("smollm3", "SmolLM3", fields={"no_rope_layers": [0, 0]})


def scaled(rope_type: str, **fields: Any) -> Theirs:
    return Theirs(rope={"rope_type": rope_type, **fields})


def gemma(size: int, cap: float | None) -> Theirs:
    """Scores as of heads of another size, and a cap of them."""
    fields = {"query_pre_attn_scalar": size, "attn_logit_softcapping": cap}
    return Theirs("gemma2", "Gemma2", fields={**fields, "layer_types": ["full_attention"]})


LAYERS: dict[str, tuple[Theirs, ...]] = {
    "rope base": (Theirs(rope={"rope_theta": 500000.0}), LLAMA),
    "rope linear": (scaled("linear", factor=4.0), LLAMA),
    "rope yarn": (scaled("yarn", factor=8.0, original_max_position_embeddings=64), LLAMA),
    "rope partial": (Theirs("stablelm", "StableLm", {"partial_rotary_factor": 0.5}), LLAMA),
    "rope interleaved": (Theirs("cohere", "Cohere"), LLAMA),
    "head sizes": (LLAMA, LLAMA, LLAMA),
    "sink logits": (Theirs("gpt_oss", "GptOss", fields={"attention_bias": False}), LLAMA),
    "soft cap": (gemma(16, 2.0), gemma(16, None)),
    "scale": (gemma(100, None), LLAMA),
    "learned positions": (BARE, BARE),
    "learned positions from 2": (BARE, BARE),
}
"""Kinds that transformers computes layer by layer."""

WHOLE: dict[str, dict[str, Any]] = {
    "window": {
        "no_rope_layers": [1, 1],
        "layer_types": ["sliding_attention", "full_attention"],
        "use_sliding_window": True,
        "sliding_window": WINDOW,
    },
    "no rope": {"no_rope_layers": [0, 1], "layer_types": ["full_attention"] * 2},
}
"""Kinds that a SmolLM3 is as a whole, by fields of its config."""


def their_model(transformers: Any, torch: Any, name: str) -> Any:
    """A model of transformers with our weights."""
    kind = KINDS[name]
    layers = LAYERS.get(name, ())
    weights = {n: torch.from_numpy(w) for n, w in random_weights(kind).items()}
    family = Theirs("smollm3", "SmolLM3", fields=WHOLE[name]) if name in WHOLE else LLAMA
    config = family.config(transformers, kind.layers[0], len(kind.layers))
    model = getattr(transformers, f"{family.name}ForCausalLM")(config).eval()
    for layer, theirs, spec in zip(model.model.layers, layers, kind.layers, strict=False):
        attention, rotary = theirs.classes()
        own = theirs.config(transformers, spec)
        layer.self_attn = attention(own, 0).eval()
        layer.self_attn.register_forward_pre_hook(at_positions(rotary(own)), with_kwargs=True)
    if kind.learned:
        table = weights["embed_positions.weight"][kind.offset :]
        model.model.embed_tokens.register_forward_hook(
            lambda module, given, embedded: embedded + table[: embedded.shape[1]]
        )
    model.load_state_dict(their_weights(kind, weights))
    return model


def at_positions(rotary: Any) -> Callable[..., Any]:
    """What gives a layer sines and cosines of its own."""

    def give(layer: Any, positional: Any, named: dict[str, Any]) -> Any:
        own = rotary(named["hidden_states"], named["position_ids"])
        return positional, {**named, "position_embeddings": own}

    return give


def their_weights(kind: AttentionKind, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Our weights under transformers' names."""
    theirs = {n: weights[n] for n in weights if not n.endswith("sinks")}
    theirs.pop("embed_positions.weight", None)
    for index, spec in enumerate(kind.layers):
        attention, mlp = (f"model.layers.{index}.{part}" for part in ("self_attn", "mlp"))
        sizes = [spec.query_heads * spec.key_size, *[spec.kv_heads * spec.key_size] * 2]
        qkv = theirs.pop(f"{attention}.qkv_proj.weight").split(sizes)
        gate_up = theirs.pop(f"{mlp}.gate_up_proj.weight").split(INNER)
        theirs |= {f"{attention}.{n}_proj.weight": w for n, w in zip("qkv", qkv, strict=True)}
        theirs |= {
            f"{mlp}.{n}_proj.weight": w for n, w in zip(("gate", "up"), gate_up, strict=True)
        }
        if spec.sink_logits:
            theirs[f"{attention}.sinks"] = weights[f"{attention}.sinks"]
    return theirs


@pytest.fixture(scope="module", params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def kind(name: str) -> AttentionKind:
    return KINDS[name]


@pytest.fixture(scope="module")
def model(kind: AttentionKind, libraries: LibraryCache) -> KindModel:
    """The kind's model, compiled for this CPU with weights in float32."""
    return load(kind, "q0f32", libraries)


def load(kind: AttentionKind, quantization: str, libraries: LibraryCache) -> KindModel:
    library = kind_library(kind, quantization, CPU, libraries)
    return KindModel(library, quantization, random_weights(kind), CPU)


@pytest.fixture(scope="module")
def by_numpy(kind: AttentionKind) -> np.ndarray:
    """The logits after each of IDS."""
    return AttentionReference(kind, random_weights(kind))(IDS)


@pytest.fixture(scope="module")
def expected(request: pytest.FixtureRequest, name: str) -> Expected:
    """By transformers where it computes this, and else by NumPy."""
    if name not in LAYERS and name not in WHOLE:
        return remembered(AttentionReference(KINDS[name], random_weights(KINDS[name])))
    transformers, torch = map(request.getfixturevalue, ("transformers", "torch"))
    torch.set_num_threads(1)  # its threads and TVM's would wait for each other's cores
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = their_model(transformers, torch, name)

    def logits(ids: Sequence[int]) -> np.ndarray:
        with torch.no_grad():
            return theirs(torch.tensor([list(ids)]), use_cache=False).logits[0].numpy()

    return remembered(logits)


def remembered(logits: Expected) -> Expected:
    known = functools.cache(logits)
    return lambda ids: known(tuple(ids))


@pytest.mark.matrix
def test_the_references_agree(expected: Expected, by_numpy: np.ndarray) -> None:
    np.testing.assert_allclose(expected(IDS), by_numpy, rtol=0, atol=checks.TOLERANCE)
    assert 0.9 < by_numpy.std() < 1.1


@pytest.mark.matrix
def test_it_matters(kind: AttentionKind, by_numpy: np.ndarray) -> None:
    """Layers that are alike, in another order or slightly others give quite other logits."""
    mistaken = list(kind.mistaken())
    assert mistaken
    for other in mistaken:
        logits = AttentionReference(other, random_weights(kind))(IDS[:150])
        assert np.abs(logits - by_numpy[:150]).max() > 1, other


CHECKS = (
    checks.check_one_pass,
    checks.check_chunks,
    checks.check_prompts,
    checks.check_decode,
    checks.check_greedy_text,
    checks.check_going_back,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_one_sequence(model: KindModel, expected: Expected, check: Callable[..., None]) -> None:
    check(model, expected, IDS)


def test_sequences_of_different_lengths(model: KindModel, expected: Expected) -> None:
    checks.check_batch(model, expected, len(IDS))


def test_bits_however_a_prompt_is_cut(model: KindModel) -> None:
    check_cuts(model)


def test_bits_in_a_batch(model: KindModel) -> None:
    check_batch(model)


@pytest.fixture(scope="module")
def of_every_kind(libraries: LibraryCache) -> KindModel:
    """A model with a layer of every kind, with weights in float32."""
    return load(every_kind(), "q0f32", libraries)


@pytest.fixture(scope="module")
def expected_of_every_kind() -> Expected:
    return remembered(AttentionReference(every_kind(), random_weights(every_kind())))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.matrix
def test_every_kind_in_one_model(
    of_every_kind: KindModel, expected_of_every_kind: Expected, check: Callable[..., None]
) -> None:
    check(of_every_kind, expected_of_every_kind, IDS)


def test_sequences_of_every_kind(
    of_every_kind: KindModel, expected_of_every_kind: Expected
) -> None:
    checks.check_batch(of_every_kind, expected_of_every_kind, len(IDS))


def test_bits_of_every_kind(of_every_kind: KindModel) -> None:
    check_cuts(of_every_kind)
    check_batch(of_every_kind)


@pytest.mark.slow
def test_bits_in_4_bits(libraries: LibraryCache) -> None:
    in_4_bits = load(every_kind(), "q4f16_1", libraries)
    check_cuts(in_4_bits)
    check_batch(in_4_bits)


def check_cuts(model: KindModel) -> None:
    """The logits of a prompt, and of a token after it, are the same however it is cut."""
    cache = model.cache(1)
    results = []
    for cuts in ([], [16], [37], [64, 65], [300], [1, 2, 3, 256, 257]):
        one, ends = cache.add(), [*cuts, 330]
        rows = [
            model.functions.score([Run(one, IDS[begin:end])], range(end - begin)).copy()
            for begin, end in zip([0, *cuts], ends, strict=True)
        ]
        rows.append(model.functions.decode([Run(one, (IDS[330],))]).copy())
        results.append(np.concatenate(rows))
        np.testing.assert_array_equal(results[-1], results[0], f"cut at {cuts}")
        cache.remove(one)


def check_batch(model: KindModel) -> None:
    """Sequences of different lengths together, in another order, give what each gives alone."""
    every = {n: prompt(n + 6, VOCABULARY, seed=n) for n in (40, 1, 590, 16, 2, 300, 17)}
    together = answers(model, every)
    for n, ids in every.items():
        for found, wanted in zip(together[n], answers(model, {n: ids})[n], strict=True):
            np.testing.assert_array_equal(found, wanted, f"a prompt of {n} tokens")


def answers(model: KindModel, every: Mapping[int, Sequence[int]]) -> dict[int, list[np.ndarray]]:
    """By the length of a prompt, the logits of all its tokens and of each that is decoded."""
    cache = model.cache(len(every))
    held = {n: cache.add() for n in every}
    runs = [Run(held[n], ids[:n]) for n, ids in every.items()]
    scored = model.functions.score(runs, range(sum(every))).copy()
    parts = np.split(scored, np.cumsum([*every])[:-1])
    logits = {n: [part] for n, part in zip(every, parts, strict=True)}
    for step in range(6):
        rows = model.functions.decode(
            [Run(held[n], ids[n + step :][:1]) for n, ids in every.items()]
        )
        for n, row in zip(every, rows.copy(), strict=True):
            logits[n].append(row)
    return logits
