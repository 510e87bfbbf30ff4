"""Each family of models on Vulkan against the CPU device."""

from __future__ import annotations

import pytest
from mlc_llm_vulkan import DEVICE

from mlc_llm.library.cache import LibraryCache
from mlc_llm.testing.families import FAMILIES, distance_from_cpu

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("vulkan")]

TOLERANCE = 2e-2
"""In standard deviations of the CPU's logits; it computes in float32, and Vulkan in float16."""


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_the_cpus(name: str, libraries: LibraryCache) -> None:
    assert distance_from_cpu(name, "q4f16_1", DEVICE, libraries) < TOLERANCE
