"""Schemes and plans: what they refuse, and what they say of the tensors of a folder."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mlc_llm.plugin import Plan, Scheme
from mlc_llm.plugin.scheme import stored_tensors

Q4 = Scheme(4, "float16", group=32, zero=7)
Q4_K = Scheme(4, "float16", group=32, super_group=256)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 16, "dtype": "float32"}, "bits must be those of the dtype float32, not 16"),
        ({"bits": 0, "dtype": "float16", "group": 8}, "bits must be 1 to 8"),
        ({"bits": 12, "dtype": "float16", "group": 8}, "bits must be 1 to 8"),
        ({"bits": 4, "dtype": "float16", "group": 20}, "multiple of the 8 codes of 4 bits"),
        ({"bits": 3, "dtype": "float16", "group": 32}, "multiple of the 10 codes of 3 bits"),
        ({"bits": 4, "dtype": "float16", "group": 0}, "not 0"),
        ({"bits": 5, "dtype": "float16", "group": 16}, "multiple of the 32 codes of 1 bits"),
        ({"bits": 6, "dtype": "float16", "group": 24}, "multiple of the 16 codes of 2 bits"),
        (
            {"bits": 4, "dtype": "float16", "group": 32, "super_group": 48},
            "super_group must be a multiple of the group 32, not 48",
        ),
        ({"bits": 4, "dtype": "float16", "group": 32, "super_group": 0}, "not 0"),
        ({"bits": 4, "dtype": "float16", "group": 32, "zero": 16}, "zero must be a code of 4 bits"),
    ],
)
def test_a_scheme_that_cannot_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scheme(**fields)
    with pytest.raises(ValidationError, match=message):
        Plan.model_validate(
            {"name": "x", "dtype": "float16", "linear": fields, "embedding": fields}
        )


def test_a_plan_survives_json() -> None:
    plan = Plan(
        name="mixed",
        dtype="float16",
        linear=Q4,
        embedding=Scheme(16, "float16"),
        exceptions={
            "a.weight": (Q4, Scheme(8, "float16", group=16)),
            "b.weight": (Q4, Q4),
            "d.weight": (Q4_K,),
        },
    )
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    assert plan.schemes("a.weight") == (Q4, Scheme(8, "float16", group=16))
    assert plan.schemes("b.weight") == (Q4,)
    assert plan.schemes("c.weight") == (Q4,)
    assert plan.schemes("c.weight", embedding=True) == (Scheme(16, "float16"),)


def test_a_plan_that_was_written_before_there_were_two_levels() -> None:
    old = {"bits": 4, "dtype": "float16", "group": 32, "zero": 7, "storage": "uint32"}
    plan = Plan.model_validate({"name": "x", "dtype": "float16", "linear": old, "embedding": old})
    assert plan.linear == Q4


@pytest.mark.parametrize(
    ("scheme", "names"),
    [
        (Q4, ["q_weight", "q_scale"]),
        (Scheme(6, "float16", group=16, zero=31), ["q_weight", "q_high", "q_scale"]),
        (Q4_K, ["q_weight", "q_scale", "q_super", "q_min", "q_super_min"]),
        (
            Scheme(6, "float16", group=16, zero=32, super_group=256),
            ["q_weight", "q_high", "q_scale", "q_super"],
        ),
    ],
    ids=str,
)
def test_the_tensors_of_a_weight(scheme: Scheme, names: list[str]) -> None:
    tensors = stored_tensors("x.weight", (("n", scheme),), 300)
    assert [tensor.name for tensor in tensors] == [f"x.{name}" for name in names]


def test_two_levels_are_said() -> None:
    assert "two levels over 256" in str(Q4_K)
    assert str(Q4_K) != str(Scheme(4, "float16", group=32))


@pytest.mark.parametrize(
    ("scheme", "bits"),
    [
        (Scheme(32, "float32"), 32),
        (Q4, 4.5),
        (Scheme(4, "float16", group=32), 5),
        (Scheme(8, "float16", group=16, zero=127), 9),
        (Scheme(3, "float16", group=40, zero=3), 3.6),
        (Scheme(5, "float16", group=32, zero=16), 5.5),
        (Scheme(5, "float16", group=32), 6),
        (Q4_K, 4.625),
        (Scheme(5, "float16", group=32, super_group=256), 5.625),
        (Scheme(6, "float16", group=16, zero=32, super_group=256), 6.5625),
    ],
)
def test_the_bits_of_a_weight(scheme: Scheme, bits: float) -> None:
    assert scheme.bits_per_weight == pytest.approx(bits)
    tensors = stored_tensors("x.weight", ((4, scheme),), 1280)
    widths = {"uint32": 32, "float16": 16, "float32": 32, "int8": 8}
    stored = sum(t.shape[0] * t.shape[1] * widths[t.dtype] for t in tensors)
    assert stored == pytest.approx(4 * 1280 * bits)
