"""Every layer that an architecture may use, compiled for the CPU, against its definition in NumPy.

`plugins/vulkan/tests/test_layers.py` does the same on Vulkan.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlc_llm.device.cpu import CPU
from mlc_llm.model.layers import Linear
from mlc_llm.plugin import Plan, Scheme
from mlc_llm.quantization import PLANS, plan
from mlc_llm.testing.layer_cases import CASES, LayerCase, check_layer, linear, without_kernels
from mlc_llm.testing.random_weight import READ_SCHEMES

pytestmark = pytest.mark.matrix

WITH_WEIGHTS = [name for name in CASES if "linear" in name or name in ("embedding", "tied head")]
# One of each kind of layer.
FEW = [
    *("linear of parts with bias", "linear of three axes with residual", "embedding", "tied head"),
    *("a norm that is multiplied and added", "RMS norm of three axes with unit offset"),
    *("QK norm of two kinds", "layer norm", "activation gelu_tanh", "gated silu", "no layer"),
]
A16 = {"activations": "a16"}
A8 = {"activations": "a8"}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("tokens", [1, 37])
def test_layers_compute_what_they_are_defined_as(name: str, tokens: int, tmp_path: Path) -> None:
    check_layer(CASES[name], CPU, plan("q0f32"), tmp_path, tokens=tokens)


@pytest.mark.matrix(name=FEW)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["q0f32", "q0f16"])
def test_layers_that_no_kernel_takes(name: str, dtype: str, tmp_path: Path) -> None:
    """TVM's own operations are scheduled, and their parameters are passed through."""
    check_layer(without_kernels(CASES[name]), CPU, plan(dtype), tmp_path)


@pytest.mark.matrix(name=WITH_WEIGHTS)
@pytest.mark.parametrize("name", CASES)
def test_a_single_token_known_to_the_compiler(name: str, tmp_path: Path) -> None:
    check_layer(CASES[name], CPU, plan("q0f16"), tmp_path, tokens=1, rows=1)


@pytest.mark.parametrize("quantization", PLANS)
@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_weights_of_every_plan(name: str, quantization: str, tmp_path: Path) -> None:
    check_layer(CASES[name], CPU, plan(quantization), tmp_path, tolerance=3e-4, opt=A16)


@pytest.mark.parametrize("quantization", PLANS)
def test_coarse_activations(quantization: str, tmp_path: Path) -> None:
    case = CASES["linear of parts with bias"]
    check_layer(case, CPU, plan(quantization), tmp_path, tolerance=3e-2, opt=A8)


@pytest.mark.parametrize("scheme", READ_SCHEMES.values(), ids=READ_SCHEMES)
@pytest.mark.parametrize("name", ["linear of parts with bias", "embedding", "tied head"])
def test_weights_that_are_only_read(name: str, scheme: Scheme, tmp_path: Path) -> None:
    read = Plan(name="read", dtype="float16", linear=scheme, embedding=scheme)
    check_layer(CASES[name], CPU, read, tmp_path, tolerance=3e-4, opt=A16)


Q4, Q8 = Scheme(4, "float16", 32, 7), Scheme(8, "float16", 16, 127)
MINIMUM, Q3 = Scheme(4, "float16", 32), Scheme(3, "float16", 40, 3)
Q4_K, Q6_K = READ_SCHEMES["two levels"], READ_SCHEMES["two planes and levels"]
COLUMNS, F16 = Scheme(4, "float16", 32, 7, layout="columns"), Scheme(16, "float16")


@pytest.mark.matrix(
    schemes=[(MINIMUM, Q8, Q4), (Q3, COLUMNS, Q3), (F16, Q6_K, Q4_K), (Q4, F16, F16)]
)
@pytest.mark.parametrize(
    "schemes",
    [
        (Q4, Q4, Q8),
        (MINIMUM, Q8, Q4),
        (Q3, COLUMNS, Q3),
        (Q4_K, Q4_K, Q6_K),
        (F16, Q6_K, Q4_K),
        (F16, Q4, Q8),
        (Q4, F16, F16),
        (Q4, F16, Q8),
        (F16, F16, F16),
    ],
    ids=lambda schemes: "; ".join(map(str, schemes)),
)
def test_parts_of_different_schemes(schemes: tuple[Scheme, ...], tmp_path: Path) -> None:
    mixed = Plan(
        name="mixed", dtype="float16", linear=Q4, embedding=Q4, exceptions={"weight": schemes}
    )
    case = LayerCase(lambda: Linear(70, (33, 17, 5), bias=True), {"x": (70,)}, linear)
    # The runner puts the layer under a name; a plan's exceptions are meant without it.
    check_layer(case, CPU, mixed, tmp_path, tolerance=3e-4, opt=A16)


def test_the_answer_does_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    """What has no kernel is summed in one order."""
    from mlc_llm.testing.module_runner import run_module, store

    x = np.random.default_rng(0).standard_normal((33, 47), np.float32)
    found = []
    for tokens in (slice(None), slice(5, 6)):
        layer = CASES["no layer"].make()
        values = {"scale": np.linspace(-1, 1, 47, dtype=np.float32)}
        stored = store(layer, values, plan("q0f32")).tensors
        folder = tmp_path / str(tokens.start)
        folder.mkdir()
        method = CASES["no layer"].method
        inputs = {"x": x[tokens]}
        found.append(run_module(layer, method, inputs, stored, CPU, plan("q0f32"), folder))
    assert np.array_equal(found[0][5:6], found[1])
