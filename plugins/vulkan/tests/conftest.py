"""What tests of the vulkan device need: a Vulkan driver, be it Mesa's that computes on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest

from mlc_llm.plugin import Availability
from mlc_llm.plugin.probing import probe


@pytest.fixture(scope="session")
def vulkan(lacks: Callable[[str], NoReturn]) -> Availability:
    """What the vulkan device answers; skips (in CI: fails) where it is not available."""
    answer = probe("vulkan")
    if not answer.available:
        lacks(f"the device 'vulkan' is not available: {answer.reason}")
    return answer
