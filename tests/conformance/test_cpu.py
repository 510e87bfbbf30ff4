"""The built-in device, and a fake one that runs on it."""

from __future__ import annotations

from typing import ClassVar

import pytest

from mlc_llm.device.cpu import CPU
from mlc_llm.testing import DeviceConformance, FakeDevice

pytestmark = pytest.mark.matrix(quantization=["q0f32", "q4f16_1"])


class TestCPU(DeviceConformance):
    """The reference is NumPy."""

    device = CPU
    # Against NumPy: 15-bit activations, and keys and values in float16.
    tolerances: ClassVar = {"q0f32": 5e-5, "q0f16": 2e-2, "q4f32_1": 2e-3, "q4f16_1": 2e-2}


class TestFake(DeviceConformance):
    """The reference is the CPU."""

    device = FakeDevice()
    tolerances: ClassVar = {"q0f32": 1e-5}  # a prompt is prefilled here, decoded there


class TestUnavailable(DeviceConformance):
    """What does not need the hardware is tested, the rest skipped."""

    device = FakeDevice(reason="the fake has no driver", remedy="Install it.")
