"""Each family of models on the emulated GPU against the CPU device."""

from __future__ import annotations

import pytest

from mlc_llm.library.cache import LibraryCache
from mlc_llm.testing.families import FAMILIES

from .gpu import GPU

pytestmark = pytest.mark.slow

TOLERANCE = 2e-2
"""In standard deviations of the CPU's logits: a GPU computes in float16 what it does in float32."""


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_the_cpus(name: str, gpu: GPU, wheels: None, libraries: LibraryCache) -> None:
    found = gpu.call("family_distance", name, "q4f16_1", str(libraries.folder))
    assert found < TOLERANCE
