"""What a plan requires of a device and its adapter."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mlc_llm.errors import DeviceError
from mlc_llm.plugin import Adapter
from mlc_llm.plugin.scheme import Plan, Scheme
from mlc_llm.quantization import PLANS
from mlc_llm.quantization.requirement import require_float16, require_schemes
from mlc_llm.testing import FakeDevice, raises


@pytest.mark.parametrize("name", PLANS)
def test_float16_is_refused_where_there_is_none(name: str) -> None:
    require_float16(PLANS[name], Adapter("new card"))
    old = Adapter("old card", float16=False)
    if PLANS[name].dtype == "float32":
        require_float16(PLANS[name], old)
        return
    with raises("float16-unsupported", name, "old card", "q0f32 or q4f32_1", error=DeviceError):
        require_float16(PLANS[name], old)


class _Picky(FakeDevice):
    """A device that has some schemes."""

    def __init__(self, has: Callable[[Scheme], bool]) -> None:
        super().__init__()
        self._has = has

    def has_scheme(self, scheme: Scheme) -> bool:
        return self._has(scheme)


def test_a_scheme_that_the_device_lacks_is_refused_by_name() -> None:
    floats = _Picky(lambda scheme: scheme.is_float)
    for name in ("q0f16", "q0f32"):
        require_schemes(PLANS[name], floats)
    zero = "4 bits in groups of 32 with zero 7, float16"
    there = ("q4f16_0", zero, f"{zero}, transposed", "'fake'", "q0f16, q0f32")
    with raises("quantization-unsupported", *there, error=DeviceError):
        require_schemes(PLANS["q4f16_0"], floats)


def test_the_schemes_of_exceptions_count() -> None:
    eight = Scheme(8, "float16", group=32, zero=127)
    mixed = Plan(
        name="mixed",
        dtype="float16",
        linear=PLANS["q4f16_1"].linear,
        embedding=PLANS["q4f16_1"].embedding,
        exceptions={"head.weight": (eight,)},
    )
    require_schemes(mixed, _Picky(lambda scheme: True))
    with raises("quantization-unsupported", "mixed", "8 bits in groups of 32 with zero"):
        require_schemes(mixed, _Picky(lambda scheme: scheme != eight))


def test_a_device_that_has_nothing() -> None:
    with raises("quantization-unsupported", "'fake'", "q0f32"):
        require_schemes(PLANS["q0f32"], _Picky(lambda scheme: False))
