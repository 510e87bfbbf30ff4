"""Quantisation: the plans by name, and the packing of weights. Nothing here imports TVM."""

from mlc_llm.quantization.plans import (
    FLOAT_PLAN,
    PLAN_FIELDS,
    PLANS,
    folder_fields,
    folder_plan,
    plan,
)

__all__ = ["FLOAT_PLAN", "PLANS", "PLAN_FIELDS", "folder_fields", "folder_plan", "plan"]
