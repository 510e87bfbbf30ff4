"""Each family of models on Vulkan against the CPU device."""

from __future__ import annotations

import pytest
from mlc_llm_vulkan import DEVICE

from mlc_llm.library.cache import LibraryCache
from mlc_llm.testing.families import FAMILIES, distance_from_cpu

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("vulkan")]

TOLERANCE = 3e-2
"""As in `test_models.py`: Vulkan computes in float16 what the CPU computes in float32."""


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_the_cpus(name: str, libraries: LibraryCache) -> None:
    assert distance_from_cpu(name, "q4f16_1", DEVICE, libraries) < TOLERANCE
