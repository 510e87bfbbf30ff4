"""Models whose layers attend in different ways on Vulkan, against NumPy in float64.

`tests/compile/test_attention_kinds.py` compares that with transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from mlc_llm_vulkan import DEVICE

from mlc_llm.library.cache import LibraryCache
from mlc_llm.plugin import Availability
from mlc_llm.testing import attention_checks as checks
from mlc_llm.testing.attention_kinds import (
    KINDS,
    VOCABULARY,
    AttentionReference,
    every_kind,
    random_weights,
)
from mlc_llm.testing.attention_models import KindModel, kind_library
from mlc_llm.testing.workbench import prompt

# Longer than the window, and than two of the chunks of keys that a workgroup goes over.
IDS = prompt(301, VOCABULARY)


CHECKS = (
    checks.check_one_pass,
    checks.check_chunks,
    checks.check_prompts,
    checks.check_greedy_text,
    checks.check_going_back,
)


def check_batch(model: KindModel, expected: AttentionReference, ids: Sequence[int]) -> None:
    checks.check_batch(model, expected, len(ids) // 2)


@pytest.fixture(scope="module")
def of_every_kind(vulkan: Availability, libraries: LibraryCache) -> KindModel:
    """A model with a layer of every kind, which is quicker to compile than a model of each."""
    library = kind_library(every_kind(), "q0f32", DEVICE, libraries)
    return KindModel(library, "q0f32", random_weights(every_kind()), DEVICE)


@pytest.fixture(scope="module")
def expected_of_every_kind() -> AttentionReference:
    return AttentionReference(every_kind(), random_weights(every_kind()))


@pytest.mark.parametrize("check", [*CHECKS, check_batch], ids=lambda check: check.__name__)
def test_every_kind_in_one_model(
    of_every_kind: KindModel, expected_of_every_kind: AttentionReference, check: Callable[..., None]
) -> None:
    check(of_every_kind, expected_of_every_kind, IDS)


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


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_one_sequence(
    model: KindModel, expected: AttentionReference, check: Callable[..., None]
) -> None:
    check(model, expected, IDS)


@pytest.mark.slow
def test_sequences_of_different_lengths(model: KindModel, expected: AttentionReference) -> None:
    check_batch(model, expected, IDS)
