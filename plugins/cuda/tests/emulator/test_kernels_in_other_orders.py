"""The kernels that GPUs share, again on emulated GPUs that look for mistakes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .gpu import GPU
from .test_kernels import (  # noqa: F401
    TestActivation,
    TestAttention,
    TestLinear,
    TestNorm,
    capabilities,
    run,
)

pytestmark = pytest.mark.cuda_matrix

SETTINGS = {
    "reverse order, memory that the host may not touch": {"ORDER": "reverse", "PROTECT": "1"},
    "random order, every access checked": {"ORDER": "random", "CHECK": "1"},
}


@pytest.fixture(scope="module", params=SETTINGS)
def gpu(request: pytest.FixtureRequest, preload: str) -> Iterator[GPU]:
    settings = SETTINGS[request.param]
    with GPU(preload, **{f"GPU_EMULATOR_{k}": v for k, v in settings.items()}) as gpu:
        yield gpu
