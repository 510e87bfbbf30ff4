"""The plans that have a name."""

import json
import subprocess
import sys

import pytest

from mlc_llm.plugin.scheme import Scheme, stored_tensors
from mlc_llm.quantization import PLANS, plan
from mlc_llm.testing import raises

MLC = {"q0f16", "q0f32", "q3f16_1", "q4f16_0", "q4f16_1", "q4f32_1"}


def test_names():
    assert set(PLANS) == MLC | {"q4f16_k", "q4f16_m", "q8f16_16", "q8f16_32"}
    assert all(PLANS[name].name == name == plan(name).name for name in PLANS)


@pytest.mark.parametrize("name", PLANS)
def test_a_name_says_bits_and_dtype(name):
    chosen = plan(name)
    bits, dtype = int(name[1]), {"f16": "float16", "f32": "float32"}[name[2:5]]
    for scheme in chosen.all_schemes():
        table = name == "q4f16_k" and scheme == chosen.embedding
        assert scheme.bits == (8 if table else bits or int(name[3:]))
        assert scheme.dtype == chosen.dtype == dtype
    assert not chosen.exceptions


@pytest.mark.parametrize(
    ("name", "group", "zero", "per_word"),
    [
        ("q3f16_1", 40, 3, 10),
        ("q4f16_0", 32, 7, 8),
        ("q4f16_1", 32, 7, 8),
        ("q4f32_1", 32, 7, 8),
        ("q4f16_m", 32, None, 8),
        ("q8f16_16", 16, 127, 4),
        ("q8f16_32", 32, 127, 4),
    ],
)
def test_groups(name, group, zero, per_word):
    for scheme in plan(name).all_schemes():
        assert (scheme.group, scheme.zero, scheme.codes_per_word) == (group, zero, per_word)
        assert scheme.group % scheme.codes_per_word == 0


def test_only_the_linear_layers_of_one_plan_are_transposed():
    transposed = {name for name, plan in PLANS.items() if plan.linear.layout == "columns"}
    assert transposed == {"q4f16_0"}
    assert all(plan.embedding.layout == "rows" for plan in PLANS.values())
    assert plan("q4f16_0").embedding == plan("q4f16_1").embedding == plan("q4f16_1").linear


@pytest.mark.parametrize(
    ("name", "columns", "groups", "words"),
    [
        ("q4f16_1", 1, 1, 4),
        ("q4f16_1", 32, 1, 4),
        ("q4f16_1", 33, 2, 8),
        ("q4f16_1", 172, 6, 24),
        ("q3f16_1", 4096, 103, 412),
        ("q8f16_16", 33, 3, 12),
    ],
)
def test_ragged_rows_are_rounded_up(name, columns, groups, words):
    scheme = plan(name).linear
    assert (scheme.groups(columns), scheme.words(columns)) == (groups, words)


@pytest.mark.parametrize("name", ["q3f16_1", "q4f16_1"])
def test_matrices_are_stored_as_mlc_stores_them(test_data, name):
    """Every matrix of MLC's families of models, by its shape before and after quantisation."""
    found = 0
    for file in sorted((test_data / "families").glob("*.json")):
        for model in json.loads(file.read_text())["models"].values():
            floats, stored = (_shapes(model[key]["parameters"]) for key in ("q0f16", name))
            for weight, shape in floats.items():
                stem = weight.removesuffix("weight")
                # Stacks of experts are matrices too, but not ones of a linear layer.
                if f"{stem}q_weight" in stored and len(shape) == 2:
                    parts = ((shape[0], plan(name).linear),)
                    for tensor in stored_tensors(weight, parts, shape[1]):
                        assert stored[tensor.name] == tensor.shape, (file.stem, tensor.name)
                        found += 1
    assert found > 500


def _shapes(parameters):
    return {name: tuple(shape) for name, shape, *_ in parameters}


def test_float_plans_store_weights_as_they_are():
    assert plan("q0f16").all_schemes() == {Scheme(16, "float16")}
    assert plan("q0f32").all_schemes() == {Scheme(32, "float32")}


@pytest.mark.parametrize(
    ("name", "near"), [("q4f16", "q4f16_1"), ("Q4F16_1", "q4f16_1"), ("q0f3", "q0f32")]
)
def test_unknown_names_the_nearest(name, near):
    with raises("quantization-unknown", repr(name), repr(near), "q0f16"):
        plan(name)


def test_does_not_import_tvm():
    code = (
        "import sys, mlc_llm.quantization.packing, mlc_llm.quantization.requirement; "
        "sys.exit(bool({'tvm', 'torch'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
