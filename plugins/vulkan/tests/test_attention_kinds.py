"""Models whose layers attend in different ways on Vulkan, against NumPy in float64.

`tests/compile/test_attention_kinds.py` compares that with transformers.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mlc_llm_vulkan import DEVICE

from mlc_llm.library.cache import LibraryCache
from mlc_llm.plugin import Availability
from mlc_llm.testing import attention_checks as checks
from mlc_llm.testing.attention_kinds import (
    KINDS,
    VOCABULARY,
    AttentionReference,
    random_weights,
)
from mlc_llm.testing.attention_models import KindModel, kind_library
from mlc_llm.testing.workbench import prompt

# Those that differ in more than a kernel that `test_kernels.py` tests, or in constants.
QUICK = ("window with sink", "unequal keys and values", "sink logits", "soft cap")
pytestmark = pytest.mark.matrix(name=[*QUICK, "shared keys", "learned positions"])

# Longer than the window, and than two of the chunks of keys that a workgroup goes over.
IDS = prompt(301, VOCABULARY)


@pytest.fixture(scope="module", params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(vulkan: Availability, name: str, libraries: LibraryCache) -> KindModel:
    """The kind's model, compiled for Vulkan with weights in float32."""
    library = kind_library(KINDS[name], "q0f32", DEVICE, libraries)
    return KindModel(library, "q0f32", random_weights(KINDS[name]), DEVICE)


@pytest.fixture(scope="module")
def expected(name: str) -> AttentionReference:
    return AttentionReference(KINDS[name], random_weights(KINDS[name]))


CHECKS = (
    checks.check_one_pass,
    checks.check_chunks,
    checks.check_prompts,
    checks.check_greedy_text,
    checks.check_going_back,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_one_sequence(
    model: KindModel, expected: AttentionReference, check: Callable[..., None]
) -> None:
    check(model, expected, IDS)


def test_sequences_of_different_lengths(model: KindModel, expected: AttentionReference) -> None:
    checks.check_batch(model, expected, 150)
