"""Llama and Mistral against transformers, and the fake against NumPy."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from mlc_llm.model.llama import LLAMA
from mlc_llm.model.mistral import MISTRAL
from mlc_llm.testing import ArchitectureConformance, FakeArchitecture, LlamaReference
from mlc_llm.testing.reference import Logits


class _WithTransformers(ArchitectureConformance):
    fields: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def checkpoint(self, make_checkpoint: Any) -> Path:
        return make_checkpoint(self.architecture.name, **self.fields)

    @pytest.fixture
    def reference(self, checkpoint: Path, torch: Any, transformers: Any) -> Logits:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = transformers.AutoModelForCausalLM.from_pretrained(
                checkpoint, dtype=torch.float32, attn_implementation="eager"
            )

        def logits(ids: Sequence[int]) -> np.ndarray:
            with torch.no_grad():
                return model(torch.tensor([list(ids)])).logits[0, -1].numpy()

        return logits


class TestLlama(_WithTransformers):
    architecture = LLAMA


class TestMistral(_WithTransformers):
    architecture = MISTRAL
    # Shorter than the longest prompt.
    fields: ClassVar = {"sliding_window": 21}


class TestFake(ArchitectureConformance):
    """It needs neither torch nor transformers."""

    architecture = FakeArchitecture()

    @pytest.fixture
    def reference(self, checkpoint: Path) -> Logits:
        return LlamaReference(checkpoint)
