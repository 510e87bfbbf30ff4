"""A model with everything that an architecture may use, on the CPU, against NumPy.

`plugins/vulkan/tests/test_layers.py` has the same model on Vulkan.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mlc_llm.device.cpu import CPU
from mlc_llm.library.cache import LibraryCache
from mlc_llm.testing.whole_model import WholeModel, WholeReference, whole_checkpoint
from mlc_llm.testing.workbench import Workbench, largest_error


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory, libraries: LibraryCache) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("whole"), libraries)


@pytest.fixture(scope="module")
def checkpoint(workbench: Workbench) -> Path:
    return whole_checkpoint(workbench.folder / "whole")


@pytest.mark.matrix(quantization=["q0f32"])
@pytest.mark.parametrize(("quantization", "tolerance"), [("q0f32", 2e-5), ("q0f16", 2e-2)])
def test_logits(
    workbench: Workbench, checkpoint: Path, quantization: str, tolerance: float
) -> None:
    folder = workbench.convert(checkpoint, quantization, WholeModel())
    model = workbench.load(folder, WholeModel(), CPU)
    error, place = largest_error(model, WholeReference(checkpoint))
    assert error < tolerance, place
