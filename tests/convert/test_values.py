"""Weights that are made by functions, split and joined, and parts in schemes of their own."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from mlc_llm.convert import convert_weight
from mlc_llm.errors import ConversionError, MLCError, QuantizationError
from mlc_llm.model.layers import Embedding, Linear
from mlc_llm.model.module import Module, Parameter
from mlc_llm.model.weights import (
    interleaved_qkv,
    plus_one,
    rotary_halves,
    rows,
    stacked,
    transposed,
)
from mlc_llm.plugin import Architecture, ModelConfig, Plan, Scheme, Weight
from mlc_llm.quantization import plan
from mlc_llm.quantization.packing import quantize
from mlc_llm.testing import raises
from mlc_llm.testing.registry import registry_of
from mlc_llm.weights.folder import read_manifest
from mlc_llm.weights.shards import Shards

Array = np.ndarray[Any, Any]
Tensors = dict[str, Array]

Q4, Q4_COLUMNS = plan("q4f16_1").linear, plan("q4f16_0").linear
Q4_MINIMUM, Q8 = plan("q4f16_m").linear, plan("q8f16_32").linear
FLOAT16 = Scheme(16, "float16")


@dataclass
class Family:
    """An architecture of one test: its module, its weight map, and a checkpoint of it."""

    folder: Path
    layers: Mapping[str, Module]
    weights: list[Weight]
    tensors: Tensors = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)

    @property
    def output(self) -> Path:
        """Where it is converted to."""
        return self.folder / "output"

    def save(self) -> None:
        """Write the checkpoint."""
        source = self.folder / "checkpoint"
        source.mkdir(exist_ok=True)
        config: dict[str, object] = {"hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 6}
        config |= {"model_type": "family", "max_position_embeddings": 4}
        (source / "config.json").write_text(json.dumps(config))
        safetensors.numpy.save_file(self.tensors, source / "model.safetensors")

    def convert_saved(self, quantization: str | Plan) -> None:
        """Convert the checkpoint."""
        registry = registry_of(architectures={"family": self._architecture()})
        convert_weight(self.folder / "checkpoint", quantization, self.output, registry=registry)

    def convert(self, quantization: str | Plan) -> Tensors:
        """Write the checkpoint, convert it, and read what was stored."""
        self.save()
        self.convert_saved(quantization)
        manifest = read_manifest(self.output)
        shards = Shards(self.output, manifest)
        return {name: shards.read(tensor) for name, tensor in manifest.tensors.items()}

    def _architecture(self) -> Architecture:
        family = self

        class Model(Module):
            def __init__(self, config: ModelConfig, attention: object) -> None:
                vars(self).update(family.layers)

        class TestArchitecture(Architecture):
            name = "family"
            config_type = ModelConfig
            module_type = Model

            def attention(self, config: ModelConfig) -> list[Any]:
                return []

            def weights(self, config: ModelConfig) -> list[Weight]:
                return family.weights

            def copies(self, config: ModelConfig) -> Mapping[str, str]:
                return family.copies

        return TestArchitecture()

    def refuse(
        self,
        code: str,
        *parts: str | int,
        quantization: str | Plan = "q4f16_1",
        error: type[MLCError] = ConversionError,
    ) -> None:
        """Check that converting fails with that code and those values and leaves nothing behind."""
        with raises(code, *parts, error=error):
            self.convert(quantization)
        assert not self.output.exists()


MakeFamily = Callable[..., Family]


@pytest.fixture
def family(tmp_path: Path) -> MakeFamily:
    """Make a family, of layers by name, weights, and shapes of the checkpoint's tensors."""

    def make(
        layers: Mapping[str, Module], weights: list[Weight], **shapes: tuple[int, ...]
    ) -> Family:
        random = np.random.default_rng(0)
        tensors = {
            name.replace("__", "."): random.standard_normal(shape).astype(np.float32)
            for name, shape in shapes.items()
        }
        return Family(tmp_path, layers, weights, tensors)

    return make


def assert_stored(stored: Tensors, expected: Tensors) -> None:
    assert list(stored) == list(expected)
    for name, array in expected.items():
        assert stored[name].dtype == array.dtype, name
        np.testing.assert_array_equal(stored[name], array, err_msg=name)


def in_scheme(name: str, w: Array, scheme: Scheme) -> Tensors:
    """What a matrix is stored in, by name."""
    parts = ("weight",) if scheme.is_float else ("q_weight", "q_scale", "q_min")
    return {f"{name}.{part}": t for part, t in zip(parts, quantize(w, scheme), strict=False)}


def mixed(**exceptions: tuple[Scheme, ...]) -> Plan:
    """A plan in which some weights differ."""
    named = {f"{name}.weight": schemes for name, schemes in exceptions.items()}
    return Plan(name="mixed", dtype="float16", linear=Q4, embedding=Q4, exceptions=named)


@pytest.mark.parametrize("name", ["q0f32", "q3f16_1", "q4f16_0", "q4f16_1", "q4f16_m", "q8f16_16"])
def test_functions_make_weights_before_they_are_quantised(family: MakeFamily, name: str) -> None:
    order = interleaved_qkv(2, 4)
    model = family(
        {
            "qkv": Linear(44, 24, bias=True),
            "conv": Linear(20, 6),
            "norm": _holding(weight=Parameter((20,))),
        },
        [
            Weight("qkv.weight", make=order, orders_rows=True),
            Weight("qkv.bias", make=order, orders_rows=True),
            Weight("conv.weight", ("conv1d",), make=transposed),
            Weight("norm.weight", ("norm.offset",), make=plus_one),
        ],
        qkv__weight=(24, 44),
        qkv__bias=(24,),
        conv1d=(20, 6),
        norm__offset=(20,),
    )
    chosen, t = plan(name), model.tensors
    expected = {
        **in_scheme("qkv", order(t["qkv.weight"]), chosen.linear),
        "qkv.bias": order(t["qkv.bias"]).astype(chosen.dtype),
        **in_scheme("conv", t["conv1d"].T, chosen.linear),
        "norm.weight": (1 + t["norm.offset"]).astype(chosen.dtype),
    }
    assert_stored(model.convert(name), expected)


def _holding(**parameters: Parameter) -> Module:
    """A module of some parameters."""
    module = Module()
    vars(module).update(parameters)
    return module


def test_a_tensor_may_be_split_among_weights(family: MakeFamily) -> None:
    model = family(
        {"low": Linear(8, 5), "high": Linear(8, 3)},
        [
            Weight("low.weight", ("fused",), make=rows(0, 5), orders_rows=True),
            Weight("high.weight", ("fused",), make=rows(5, 8), orders_rows=True),
        ],
        fused=(8, 8),
    )
    fused = model.tensors["fused"]
    expected = {**in_scheme("low", fused[:5], Q4), **in_scheme("high", fused[5:], Q4)}
    assert_stored(model.convert("q4f16_1"), expected)


def test_experts_are_stacked(family: MakeFamily) -> None:
    model = family(
        {"experts": _holding(weight=Parameter((3, 4, 8)))},
        [Weight("experts.weight", ("e0", "e1", "e2"), make=stacked)],
        **{f"e{i}": (4, 8) for i in range(3)},
    )
    expected = np.stack(list(model.tensors.values())).astype(np.float16)
    assert_stored(model.convert("q4f16_1"), {"experts.weight": expected})


def test_several_sources_and_functions(family: MakeFamily) -> None:
    order = rotary_halves(2, 4)

    def make(q: Array, v: Array) -> Array:
        return np.concatenate([order(q), v])

    model = family(
        {"qv": Linear(8, 12)}, [Weight("qv.weight", ("q", "v"), make=make)], q=(8, 8), v=(4, 8)
    )
    expected = make(*model.tensors.values())
    assert_stored(model.convert("q4f16_0"), in_scheme("qv", expected, Q4_COLUMNS))


def test_numbers_without_axes(family: MakeFamily) -> None:
    model = family(
        {"scale": _holding(value=Parameter(()), row=Parameter((1,)))},
        [Weight("scale.value"), Weight("scale.row", ("s",), make=lambda s: s.reshape(1))],
        scale__value=(),
        s=(),
    )
    stored = model.convert("q0f32")
    expected = {"scale.value": model.tensors["scale.value"], "scale.row": [model.tensors["s"]]}
    assert_stored(stored, {name: np.array(value) for name, value in expected.items()})


def test_a_copy_is_not_stored_again(family: MakeFamily) -> None:
    model = family({"e": Embedding("vocab_size", 8)}, [Weight("e.weight")], e__weight=(6, 8))
    model.copies = {"head": "e.weight", "absent": "e.weight"}
    model.tensors["head"] = model.tensors["e.weight"].copy()
    assert_stored(model.convert("q4f16_1"), in_scheme("e", model.tensors["e.weight"], Q4))
    model.tensors["head"][0, 0] += 1
    model.output.rename(model.folder / "elsewhere")
    model.refuse("head-not-tied", "e.weight")


@pytest.mark.parametrize(
    "schemes",
    [
        (Q4, Q4, Q8),
        (Q4_MINIMUM, Q8, FLOAT16),
        (Q4_COLUMNS, Q4, Q4_MINIMUM),
        (Scheme(32, "float32"), FLOAT16, FLOAT16),
    ],
    ids=lambda schemes: " | ".join(map(str, schemes)),
)
def test_parts_have_schemes_of_their_own(family: MakeFamily, schemes: tuple[Scheme, ...]) -> None:
    model = family(
        {"qkv": Linear(40, (8, 4, 4))},
        [Weight("qkv.weight", ("q", "k", "v"))],
        q=(8, 40),
        k=(4, 40),
        v=(4, 40),
    )
    expected: Tensors = {}
    for index, (w, scheme) in enumerate(zip(model.tensors.values(), schemes, strict=True)):
        expected |= in_scheme(f"qkv.{index}", w, scheme)
    assert_stored(model.convert(mixed(qkv=schemes)), expected)


@pytest.mark.parametrize("schemes", [(Q8,), (Q8, Q8)])
def test_a_whole_weight_has_a_scheme_of_its_own(
    family: MakeFamily, schemes: tuple[Scheme, ...]
) -> None:
    model = family(
        {"gate_up": Linear(40, (8, 8)), "down": Linear(16, 40)},
        [
            Weight("gate_up.weight", ("gate", "up"), make=lambda *w: np.concatenate(w)),
            Weight("down.weight"),
        ],
        gate=(8, 40),
        up=(8, 40),
        down__weight=(40, 16),
    )
    gate, up, down = model.tensors.values()
    expected = in_scheme("gate_up", np.concatenate([gate, up]), Q8) | in_scheme("down", down, Q4)
    assert_stored(model.convert(mixed(gate_up=schemes)), expected)


def test_parts_that_cannot_be_stored_in_different_schemes(family: MakeFamily) -> None:
    model = family(
        {"qkv": Linear(8, (4, 4))}, [Weight("qkv.weight", ("q", "k"))], q=(4, 8), k=(4, 8)
    )
    split = mixed(qkv=(Q4, Q8))
    model.weights = [Weight("qkv.weight", ("q", "k"), make=lambda q, k: np.concatenate([q, k]))]
    model.refuse("plan-mismatch", "qkv.weight", "[4, 4]", "by a function", quantization=split)
    model.weights = [Weight("qkv.weight", ("q", "k"))]
    model.tensors |= {"q": np.ones((5, 8), np.float32), "k": np.ones((3, 8), np.float32)}
    model.refuse("plan-mismatch", "qkv.weight", "[4, 4]", "[5, 3]", quantization=split)


def test_a_plan_for_another_model(family: MakeFamily) -> None:
    model = family({"o": Linear(8, 4, bias=True)}, [Weight("o.weight"), Weight("o.bias")])
    model.tensors = {"o.weight": np.ones((4, 8), np.float32), "o.bias": np.ones(4, np.float32)}
    model.refuse("plan-mismatch", "mixed", "p.weight", quantization=mixed(p=(Q8,)))
    model.refuse("plan-mismatch", "o.weight", 2, 1, quantization=mixed(o=(Q4, Q8)))
    foreign = Scheme(4, "float16", group=32, zero=8)
    plan, error = mixed(o=(foreign,)), QuantizationError
    model.refuse("quantization-invalid", "4 bits", "zero 8", quantization=plan, error=error)


def _linear(family: MakeFamily, make: Callable[..., Any], *sources: str) -> Family:
    return family({"o": Linear(8, 4)}, [Weight("o.weight", sources or ("w",), make=make)], w=(4, 8))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda w: w[:3], "the shape (3, 8)"),
        (lambda w: w.T, "the shape (8, 4)"),
        (lambda w: None, "the shape ()"),
        (lambda w: w.reshape(3, 3), "made: cannot reshape array of size 32"),
        (lambda: None, "cannot be made"),
        (lambda w: [[1], [1, 2]], "cannot be made"),
        (interleaved_qkv(1, 2), "4 rows, where 6"),
        (lambda w: w / np.where(w == w[0, 0], 0, 1), "finite"),
        (lambda w: w.astype(str), "finite"),
    ],
)
@pytest.mark.parametrize("quantization", ["q0f16", "q4f16_0"])
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_functions_that_fail(
    family: MakeFamily, make: Callable[..., Any], said: str, quantization: str
) -> None:
    parts = ("o.weight", "'family'", "w (4, 8)", said)
    _linear(family, make).refuse("architecture-invalid", *parts, quantization=quantization)


def test_a_function_may_change_what_it_is_given(family: MakeFamily) -> None:
    def make(w: Array) -> Array:
        w *= 2
        return w

    model = _linear(family, make)
    stored = model.convert("q4f16_1")
    assert_stored(stored, in_scheme("o", 2 * model.tensors["w"], Q4))


def test_what_a_function_makes_may_be_too_large(family: MakeFamily) -> None:
    model = _linear(family, lambda w: w * 1e9)
    model.refuse("weight-too-large", "o.weight", "float16", quantization="q0f16")
    model.refuse("weight-too-large", "o.weight", "4 bits", "float16")


def test_a_source_that_is_not_finite(family: MakeFamily) -> None:
    model = _linear(family, transposed)
    model.tensors["w"][1, 1] = np.nan
    model.refuse("weight-not-finite", "w in ")


def test_an_architecture_that_contradicts_itself(family: MakeFamily) -> None:
    weight = np.ones((4, 8), np.float32)
    model = family({"o": Linear(8, 4)}, [Weight("o.weight"), Weight("p.weight")])
    model.tensors = {"o.weight": weight, "p.weight": weight}
    model.refuse("architecture-invalid", "'family'", "differ in p.weight")
    model.weights = [Weight("o.weight"), Weight("o.weight", ("p.weight",))]
    model.refuse("architecture-invalid", "'family'", "o.weight twice")
    model.weights = [Weight("o.weight")]
    model.tensors = {"o.weight": weight}
    model.layers = {"o": Linear(8, "vocab_width")}
    model.refuse("architecture-invalid", "'family'", "vocab_width")


@pytest.mark.parametrize("quantization", ["q0f32", "q4f16_0", "q4f16_1"])
def test_one_weight_at_a_time_is_in_memory(family: MakeFamily, quantization: str) -> None:
    count, side = 8, 1440
    model = family(
        {f"o{i}": Linear(side, side) for i in range(count)},
        [Weight(f"o{i}.weight", make=transposed) for i in range(count)],
    )
    model.tensors = {f"o{i}.weight": np.ones((side, side), np.float32) for i in range(count)}
    model.save()
    nbytes = model.tensors["o0.weight"].nbytes
    tracemalloc.start()
    model.convert_saved(quantization)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The source, what is made of it, and a block on its way into the file.
    assert peak < 3 * nbytes
