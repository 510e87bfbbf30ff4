"""What tests of the vulkan device need: a Vulkan driver, be it Mesa's that computes on the CPU."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from typing import Any

import pytest

from mlc_llm.plugin import Availability
from mlc_llm.registry.probing import probe

# It has C++ in it, and cannot be built everywhere. In CI the tests then fail where they import it.
INSTALLED = importlib.util.find_spec("mlc_llm_vulkan") is not None
if not INSTALLED and not os.environ.get("CI"):
    collect_ignore_glob = ["test_*.py"]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not INSTALLED:
        terminalreporter.write_line("mlc-llm-vulkan is not installed: its tests are left out.")


@pytest.fixture(scope="session", autouse=True)
def patient_probes() -> Iterator[None]:
    """Machines that run tests may be slow, and the children of a probe import torch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLC_LLM_PROBE_TIMEOUT", "120")
        yield


@pytest.fixture(scope="session")
def vulkan(patient_probes: None) -> Availability:
    """What the vulkan device answers; where the system has no driver for it, skips, in CI fails."""
    answer = probe("vulkan")
    if not answer.available:
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop(f"the device 'vulkan' is not available: {answer.reason}")
    return answer
