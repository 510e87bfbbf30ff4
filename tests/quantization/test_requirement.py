"""What a quantisation requires of an adapter."""

from __future__ import annotations

import pytest

from mlc_llm.errors import DeviceError
from mlc_llm.plugin import Adapter
from mlc_llm.plugin.choice import Choice
from mlc_llm.quantization import QUANTIZATIONS
from mlc_llm.quantization.requirement import require_float16
from mlc_llm.testing import FakeDevice


@pytest.mark.parametrize("name", QUANTIZATIONS)
def test_float16_is_refused_where_there_is_none(name: str) -> None:
    require_float16(name, Choice(FakeDevice(), 0, Adapter("new card")))
    old = Choice(FakeDevice(), 1, Adapter("old card", float16=False))
    if QUANTIZATIONS[name].model_dtype == "float32":
        require_float16(name, old)
        return
    told = rf"{name} computes in float16, which the adapter fake:1 \(old card\) does not do\. Use"
    with pytest.raises(DeviceError, match=told) as caught:
        require_float16(name, old)
    assert "q0f32 or q4f32_1" in str(caught.value)
