"""RoPE's scaling in a GGUF file, in the form of Hugging Face's ``rope_scaling``.

Files say it in two ways: by settings ``rope.scaling.*``, and by tensors with a divisor for each
pair of a head, as Llama 3.1 and Phi-3 have them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_llm.weights.paths import shown_name

DIVISORS = "rope_freqs.weight"
LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
TENSORS = (DIVISORS, LONG, SHORT)
"""Tensors that say how RoPE is scaled, which the config says then."""

_LLAMA_3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
_LLAMA_3_LENGTH = 8192
"""What all Llamas from 3.1 on have; their factor is 8 or 32."""

Setting = Callable[[str], Any]
Floats = npt.NDArray[np.float32]


def rope_scaling(
    setting: Setting, tensors: Mapping[str, Floats], *, base: float, head_dim: int, length: int
) -> dict[str, Any] | None:
    """What ``rope_scaling`` says, or None for plain RoPE.

    Args:
        setting: gives the setting ``ARCHITECTURE.NAME`` of a file by that name, or None.
        tensors: those of :data:`TENSORS` that the file has.
        base: RoPE's base.
        head_dim: elements of a head.
        length: positions that the model can read.

    Raises:
        ValueError: the scaling is of an unknown type.
    """
    turning = setting("rope.dimension_count")
    if not isinstance(turning, int) or turning < 1:
        turning = head_dim
    scaling = _scaling(setting, tensors, base, turning, length)
    if turning != head_dim:
        part = {"partial_rotary_factor": turning / head_dim}
        scaling = {**(scaling or {"rope_type": "default"}), **part}
    return scaling


def _scaling(
    setting: Setting, tensors: Mapping[str, Floats], base: float, turning: int, length: int
) -> dict[str, Any] | None:
    if LONG in tensors and SHORT in tensors:
        return _by_divisors(setting, tensors[SHORT], tensors[LONG], length)
    if DIVISORS in tensors:
        divisors = tensors[DIVISORS]
        return _llama_3(divisors, base, turning) or _by_divisors(
            setting, divisors, divisors, length
        )
    kind = setting("rope.scaling.type")
    factor = setting("rope.scaling.factor") or setting("rope.scale_linear")
    if kind is None and factor is not None:
        kind = "linear"
    if kind in (None, "none") or (kind == "linear" and factor in (None, 0, 1)):
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn":
        return _yarn(setting, factor)
    raise ValueError(f"RoPE's scaling is of the type {shown_name(repr(kind))}, which is not known")


def _yarn(setting: Setting, factor: Any) -> dict[str, Any]:
    """Without what a file leaves out, which is then as in the paper."""
    names = {
        "original_max_position_embeddings": "rope.scaling.original_context_length",
        "beta_fast": "rope.scaling.yarn_beta_fast",
        "beta_slow": "rope.scaling.yarn_beta_slow",
        "mscale_all_dim": "rope.scaling.yarn_log_multiplier",
    }
    found = {ours: setting(theirs) for ours, theirs in names.items()}
    given = {name: value for name, value in found.items() if value is not None}
    if "mscale_all_dim" in given:
        given["mscale"] = 1.0  # which no file says, and llama.cpp takes
    return {"rope_type": "yarn", "factor": factor, **given}


def _by_divisors(setting: Setting, short: Floats, long: Floats, length: int) -> dict[str, Any]:
    """A divisor for each pair, as they are."""
    original = setting("rope.scaling.original_context_length") or length
    return {
        "rope_type": "longrope",
        "short_factor": _shortest(short),
        "long_factor": _shortest(long),
        "original_max_position_embeddings": original,
        "attention_factor": setting("rope.scaling.attn_factor") or 1.0,
    }


def _llama_3(divisors: Floats, base: float, turning: int) -> dict[str, Any] | None:
    """The formula that these divisors come from, if it is Llama 3's.

    So the model is the same as its checkpoint in Hugging Face's layout, to the last field.
    """
    factor = float(divisors.max()) if divisors.size else 0.0
    if len(divisors) != turning // 2 or not 1 < factor < 1e4 or factor != round(factor):
        return None
    exponent = np.arange(0, turning, 2, dtype=np.float64) / turning
    turns = _LLAMA_3_LENGTH / (2 * np.pi * np.float64(base) ** exponent)
    low, high = _LLAMA_3["low_freq_factor"], _LLAMA_3["high_freq_factor"]
    keep = np.clip((turns - low) / (high - low), 0, 1)
    if not np.allclose(1 / ((1 - keep) / factor + keep), divisors, rtol=1e-4, atol=0):
        return None
    return {
        "rope_type": "llama3",
        "factor": factor,
        **_LLAMA_3,
        "original_max_position_embeddings": _LLAMA_3_LENGTH,
    }


def _shortest(values: Floats) -> list[float]:
    """Numbers of float32 as the shortest decimals that give them back."""
    return [float(str(value)) for value in values]
