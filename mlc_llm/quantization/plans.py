"""The plans that have a name: how all weights of a model are stored.

======== ========================================================= ======= ==================
name     linear layers                                             dtype   whose layout
======== ========================================================= ======= ==================
q0f16    float16                                                   float16 MLC's
q0f32    float32                                                   float32 MLC's
q3f16_1  3 bits, groups of 40, ten codes in a word                 float16 MLC's
q4f16_0  4 bits, groups of 32, transposed; embeddings as q4f16_1   float16 MLC's
q4f16_1  4 bits, groups of 32                                      float16 MLC's
q4f32_1  4 bits, groups of 32                                      float32 MLC's
q4f16_k  4 bits, groups of 32, each with a minimum, in two levels  float16 this project's
q4f16_m  4 bits, groups of 32, each with a minimum                 float16 this project's
q8f16_16 8 bits, groups of 16                                      float16 this project's
q8f16_32 8 bits, groups of 32                                      float16 this project's
======== ========================================================= ======= ==================

Embeddings are stored as linear layers are, but for ``q4f16_0``, since a row of a table is looked up
and must not be scattered, and for ``q4f16_k``, the default for checkpoints in floats, which stores
them in 8 bits. Which other weights of a model that one stores finer is said by
:mod:`mlc_llm.model.finer_weights`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from mlc_llm.config import CHAT_CONFIG_FILE, ModelFile
from mlc_llm.config.explain import explain
from mlc_llm.errors import QuantizationError, unknown
from mlc_llm.plugin.scheme import FloatType, Plan, Scheme


def _uniform(name: str, dtype: FloatType, scheme: Scheme) -> Plan:
    """A plan of one scheme; a table of embeddings is never transposed."""
    table = replace(scheme, layout="rows")
    return Plan(name=name, dtype=dtype, linear=scheme, embedding=table)


_TWO_LEVELS = Scheme(4, "float16", group=32, super_group=256)
_EIGHT_BITS = Scheme(8, "float16", group=32, zero=127)

PLANS: dict[str, Plan] = {
    plan.name: plan
    for plan in (
        _uniform("q0f16", "float16", Scheme(16, "float16")),
        _uniform("q0f32", "float32", Scheme(32, "float32")),
        _uniform("q3f16_1", "float16", Scheme(3, "float16", group=40, zero=3)),
        _uniform("q4f16_0", "float16", Scheme(4, "float16", group=32, zero=7, layout="columns")),
        _uniform("q4f16_1", "float16", Scheme(4, "float16", group=32, zero=7)),
        _uniform("q4f32_1", "float32", Scheme(4, "float32", group=32, zero=7)),
        Plan(name="q4f16_k", dtype="float16", linear=_TWO_LEVELS, embedding=_EIGHT_BITS),
        _uniform("q4f16_m", "float16", Scheme(4, "float16", group=32)),
        _uniform("q8f16_16", "float16", Scheme(8, "float16", group=16, zero=127)),
        _uniform("q8f16_32", "float16", _EIGHT_BITS),
    )
}
"""Every plan that has a name, by that name."""


FLOAT_PLAN = "q4f16_k"
"""The name of the plan for checkpoints of floating-point numbers, where none is named."""


def plan(name: str) -> Plan:
    """Return the plan of that name.

    Raises:
        QuantizationError: there is none; the message has the nearest names.
    """
    try:
        return PLANS[name]
    except KeyError:
        raise QuantizationError(
            unknown("quantization", name, PLANS), code="quantization-unknown"
        ) from None


PLAN_FIELDS = ("quantization", "quantization_plan")
"""The fields of ``mlc-chat-config.json`` that say how the weights are stored."""


def folder_fields(plan: Plan) -> dict[str, Any]:
    """Those fields for a plan, which is written out unless its name says all."""
    if plan == PLANS.get(plan.name):
        return {"quantization": plan.name}
    written = plan.model_dump(mode="json", exclude={"name"})
    return {"quantization": plan.name, "quantization_plan": written}


def folder_plan(model: ModelFile) -> Plan:
    """How the weights of a model folder are stored.

    Args:
        model: the folder's ``mlc-chat-config.json``.

    Raises:
        QuantizationError: the file has no plan of its own, and there is none of the name that it
            gives; or its own plan is malformed.
    """
    if model.quantization_plan is None:
        return plan(model.quantization)
    try:
        return Plan.model_validate({**model.quantization_plan, "name": model.quantization})
    except ValidationError as error:
        problems = explain(error, "quantization_plan", Plan.model_fields)
        raise QuantizationError(
            f"{CHAT_CONFIG_FILE} cannot be read: {problems}", code="model-config-invalid"
        ) from None
