"""What a quantisation requires of an adapter."""

from __future__ import annotations

from mlc_llm.errors import DeviceError
from mlc_llm.plugin.choice import Choice
from mlc_llm.quantization.scheme import QUANTIZATIONS, scheme


def require_float16(quantization: str, chosen: Choice) -> None:
    """Refuse a quantisation whose dtype the adapter does not compute with.

    Args:
        quantization: the quantisation's name.
        chosen: the device and its adapter.

    Raises:
        DeviceError: it is float16, and the adapter has none; the message says what to use instead.
        QuantizationError: there is no quantisation of that name.
    """
    if scheme(quantization).model_dtype != "float16" or chosen.adapter.float16:
        return
    others = [name for name, other in QUANTIZATIONS.items() if other.model_dtype == "float32"]
    raise DeviceError(
        f"The model's quantisation {quantization} computes in float16, which the adapter {chosen} "
        f"({chosen.adapter.name}) does not do. Use a model in {' or '.join(sorted(others))}, or "
        "another device."
    )
