"""Each family of models on the emulated GPU against the CPU device."""

from __future__ import annotations

import pytest

from mlc_llm.library.cache import LibraryCache
from mlc_llm.testing.families import FAMILIES

from .gpu import GPU
from .marks import only_in_matrix

pytestmark = pytest.mark.slow

TOLERANCE = 2e-2
"""In standard deviations of the CPU's logits: a GPU computes in float16 what it does in float32."""

LIKE_OTHERS = [
    *("internlm2", "llama", "ministral3", "mistral", "phi3", "qwen2", "qwen3", "smollm3"),
    "stablelm",
]
"""Families whose kernels others have, too, but for the shared one that rotates queries and keys."""


@pytest.mark.parametrize(
    "name",
    [*(one for one in FAMILIES if one not in LIKE_OTHERS), *only_in_matrix(LIKE_OTHERS)],
)
def test_logits_are_the_cpus(name: str, gpu: GPU, wheels: None, libraries: LibraryCache) -> None:
    found = gpu.call("family_distance", name, "q4f16_1", str(libraries.folder))
    assert found < TOLERANCE
