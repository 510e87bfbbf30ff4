"""Which schemes the kernels that GPUs share take."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from mlc_llm.compile.gpu.kernels.weight import weight_of
from mlc_llm.compile.gpu.schemes import has_scheme
from mlc_llm.errors import CompileError
from mlc_llm.plugin import Scheme
from mlc_llm.quantization import PLANS
from mlc_llm.testing import raises

Q4 = Scheme(4, "float16", group=32, zero=7)


@pytest.mark.parametrize("plan", PLANS)
def test_every_named_plan_of_one_level_is_taken(plan: str) -> None:
    schemes = PLANS[plan].all_schemes()
    assert all(map(has_scheme, schemes)) == (plan != "q4f16_k")
    assert all(has_scheme(scheme) != scheme.has_two_levels for scheme in schemes)


def test_any_zero_and_any_group_are_taken() -> None:
    assert has_scheme(replace(Q4, zero=8))
    assert has_scheme(Scheme(7, "float32", group=12, layout="columns"))
    assert has_scheme(Scheme(5, "float16", group=32))
    assert has_scheme(Scheme(6, "float16", group=16, zero=32))


def test_two_levels_are_refused() -> None:
    scheme = replace(Q4, super_group=256)
    assert not has_scheme(scheme)
    with raises("quantization-unsupported", "two levels over 256", error=CompileError):
        weight_of(scheme, 512)


def test_single_bits_are_refused() -> None:
    scheme = Scheme(1, "float16", group=32)
    assert not has_scheme(scheme)
    with raises("quantization-unsupported", "1 bit", error=CompileError):
        weight_of(scheme, 64)


def test_asking_does_not_import_tvm() -> None:
    code = "import sys, mlc_llm.compile.gpu.schemes; sys.exit('tvm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
