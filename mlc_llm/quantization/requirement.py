"""What a plan requires of a device and its adapter."""

from __future__ import annotations

from mlc_llm.errors import DeviceError
from mlc_llm.plugin.device import Adapter, Device
from mlc_llm.plugin.scheme import Plan
from mlc_llm.quantization.plans import PLANS


def require_float16(plan: Plan, adapter: Adapter) -> None:
    """Refuse a plan with a dtype that the adapter does not compute with.

    Args:
        plan: the model's plan.
        adapter: what the model is to run on.

    Raises:
        DeviceError: it has float16, and the adapter has none; the message says what to use instead.
    """
    if adapter.float16 or not _has_float16(plan):
        return
    others = sorted(name for name, other in PLANS.items() if not _has_float16(other))
    raise DeviceError(
        f"The model's quantisation {plan.name} computes in float16, which {adapter.name} does not "
        f"do. Use a model in {' or '.join(others)}, or another device.",
        code="float16-unsupported",
    )


def _has_float16(plan: Plan) -> bool:
    return "float16" in {plan.dtype, *(scheme.dtype for scheme in plan.all_schemes())}


def require_schemes(plan: Plan, device: Device) -> None:
    """Refuse a plan with a scheme that the device has no kernels for.

    Args:
        plan: the model's plan.
        device: the device.

    Raises:
        DeviceError: it has such a scheme; the message says which plans the device has.
    """
    missing = missing_schemes(plan, device)
    if not missing:
        return
    has = [name for name in sorted(PLANS) if all(map(device.has_scheme, PLANS[name].all_schemes()))]
    raise DeviceError(
        f"The model's quantisation {plan.name} has weights in {' and in '.join(missing)}, which "
        f"the device {device.name!r} does not compute with. It has "
        f"{', '.join(has) if has else 'no quantisation that has a name'}. Convert the model to "
        "another quantisation, or use another device.",
        code="quantization-unsupported",
    )


def missing_schemes(plan: Plan, device: Device) -> list[str]:
    """The schemes of a plan that a device has no kernels for, in words."""
    return sorted(str(scheme) for scheme in plan.all_schemes() if not device.has_scheme(scheme))


def require_plan(plan: Plan, device: Device, adapter: Adapter) -> None:
    """Refuse a plan that the device or its adapter does not compute with.

    Raises:
        DeviceError: see :func:`require_float16` and :func:`require_schemes`.
    """
    require_float16(plan, adapter)
    require_schemes(plan, device)
