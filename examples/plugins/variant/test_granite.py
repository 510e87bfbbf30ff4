"""Granite as transformers computes it. Needs pytest, transformers and torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from mlc_llm_granite import Granite

from mlc_llm.testing import ArchitectureConformance, make_checkpoint

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


class TestGranite(ArchitectureConformance):
    architecture = Granite()

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Path:
        """A small random model in which each factor matters."""
        return make_checkpoint(
            tmp_path / "granite",
            model_type="granite",
            embedding_multiplier=3.0,
            attention_multiplier=0.5,
            residual_multiplier=0.6,
            logits_scaling=5.0,
        )

    @pytest.fixture
    def reference(self, checkpoint: Path) -> Callable[[Sequence[int]], np.ndarray]:
        model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)

        def logits(token_ids: Sequence[int]) -> np.ndarray:
            with torch.no_grad():
                return model(torch.tensor([list(token_ids)])).logits[0, -1].numpy()

        return logits
