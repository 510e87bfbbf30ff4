"""Models with different layers in float16 on the emulated GPU: chunks, windows, several sequences.

They are compared with NumPy in float64.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pathlib import Path
from mlc_llm_cuda import DEVICE
from mlc_llm.library.cache import LibraryCache
from mlc_llm.testing import attention_checks as checks
from mlc_llm.testing.attention_kinds import (
    KINDS, VOCABULARY, AttentionReference, random_weights,
)
from mlc_llm.testing.attention_models import KindModel, kind_library
from mlc_llm.testing.workbench import prompt

name, folder = sys.argv[1:]
checks.TOLERANCE = 0.05  # of weights, activations, keys and values that are rounded to float16
kind, ids = KINDS[name], prompt(170, VOCABULARY)
library = kind_library(kind, "q0f16", DEVICE, LibraryCache(Path(folder)))
model = KindModel(library, "q0f16", random_weights(kind), DEVICE)
expected = AttentionReference(kind, random_weights(kind))
checks.check_chunks(model, expected, ids)
checks.check_batch(model, expected, 100)
checks.check_going_back(model, expected, ids)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["window with sink", "sink logits", "soft cap"])
def test_chunks_and_batches(kind: str, preload: str, wheels: None, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, str(tmp_path)],
        env={**os.environ, "LD_PRELOAD": preload},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
