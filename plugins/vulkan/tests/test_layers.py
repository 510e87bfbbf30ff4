"""Every layer that architectures are made of, lowered, compiled and run on Vulkan."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlc_llm_vulkan import DEVICE

from mlc_llm.library.cache import LibraryCache
from mlc_llm.plugin import Plan, Scheme
from mlc_llm.quantization import PLANS
from mlc_llm.testing.layer_cases import CASES, LayerCase, check_layer, without_kernels
from mlc_llm.testing.whole_model import WholeModel, WholeReference, whole_checkpoint
from mlc_llm.testing.workbench import Workbench, largest_error

pytestmark = [pytest.mark.usefixtures("vulkan"), pytest.mark.matrix]

TOLERANCES = {"float16": 1e-2, "float32": 1e-5}
"""In standard deviations of the result: that of float16 is due to its rounding."""

# One of each kind of layer.
FEW = [
    *("linear of parts with bias", "linear of three axes with residual", "embedding", "tied head"),
    *("a norm that is multiplied and added", "RMS norm of three axes with unit offset"),
    *("QK norm of two kinds", "layer norm", "activation gelu_tanh", "gated silu", "no layer"),
]
WEIGHTS = [name for name, case in CASES.items() if "linear" in name or case.table is not None]
"""Cases with a weight that may be stored in any way."""


def check(case: LayerCase, plan: Plan, folder: Path) -> None:
    """With many rows, and with the kernels for a single one."""
    for tokens, rows in ((5, "n"), (1, 1)):
        within = TOLERANCES[plan.dtype]
        check_layer(case, DEVICE, plan, folder, tokens=tokens, rows=rows, tolerance=within)


@pytest.mark.parametrize("name", CASES)
def test_layers(tmp_path: Path, name: str) -> None:
    check(CASES[name], PLANS["q4f32_1"], tmp_path)


TAKEN = [name for name, plan in PLANS.items() if all(map(DEVICE.has_scheme, plan.all_schemes()))]


@pytest.mark.parametrize("plan", [name for name in TAKEN if name != "q4f32_1"])
@pytest.mark.parametrize("name", ["linear of parts with bias", "embedding", "tied head"])
def test_plans(tmp_path: Path, name: str, plan: str) -> None:
    check(CASES[name], PLANS[plan], tmp_path)


def test_parts_in_several_schemes(tmp_path: Path) -> None:
    schemes = (
        Scheme(4, "float32", group=32),
        Scheme(8, "float32", group=16, zero=127),
        Scheme(32, "float32"),
    )
    plan = PLANS["q4f32_1"].model_copy(update={"exceptions": {"weight": schemes}})
    check(CASES["linear of parts with bias"], plan, tmp_path)


@pytest.mark.matrix(name=FEW)
@pytest.mark.parametrize("name", CASES)
def test_layers_that_no_kernel_takes(tmp_path: Path, name: str) -> None:
    """Each layer in a class of its own, for which the operations of its forward are compiled."""

    check(without_kernels(CASES[name]), PLANS["q4f32_1"], tmp_path)


@pytest.mark.matrix(quantization=["q0f32"])
@pytest.mark.parametrize(("quantization", "tolerance"), [("q0f32", 5e-5), ("q0f16", 5e-2)])
def test_a_model_with_everything(
    tmp_path: Path, libraries: LibraryCache, quantization: str, tolerance: float
) -> None:
    workbench, architecture = Workbench(tmp_path, libraries), WholeModel()
    checkpoint = whole_checkpoint(tmp_path / "whole")
    folder = workbench.convert(checkpoint, quantization, architecture)
    model = workbench.load(folder, architecture, DEVICE)
    error, place = largest_error(model, WholeReference(checkpoint))
    assert error < tolerance, place
