"""Arcee's models as transformers computes them. Needs pytest, transformers and torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from mlc_llm_arcee import Arcee, ArceeConfig

from mlc_llm.testing import ArchitectureConformance
from mlc_llm.testing.model_folder import write_byte_tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

CONFIG = {
    "hidden_size": 96,
    "intermediate_size": 150,  # not a multiple of 16, as the blocks of kernels are
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "max_position_embeddings": 256,
    "vocab_size": 320,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def save_random_arcee(folder: Path, **config: object) -> Path:
    """Save a small random model in Hugging Face's layout, in which every parameter counts."""
    torch.manual_seed(0)
    model = transformers.ArceeForCausalLM(transformers.ArceeConfig(**{**CONFIG, **config}))
    with torch.no_grad():
        for parameter in model.parameters():
            # Biases, too, which transformers starts at zero: leaving them out would not show.
            parameter += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    write_byte_tokenizer(folder / "tokenizer.json", model.config.vocab_size)
    return folder


class TestArcee(ArchitectureConformance):
    architecture = Arcee()

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Path:
        return save_random_arcee(tmp_path / "arcee", attention_bias=True, mlp_bias=True)

    @pytest.fixture
    def reference(self, checkpoint: Path) -> Callable[[Sequence[int]], np.ndarray]:
        model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)

        def logits(token_ids: Sequence[int]) -> np.ndarray:
            with torch.no_grad():
                return model(torch.tensor([list(token_ids)])).logits[0, -1].numpy()

        return logits


def test_what_a_file_leaves_out_has_transformers_default() -> None:
    config = ArceeConfig.model_validate(CONFIG)
    assert (config.hidden_act, config.rms_norm_eps) == ("relu2", 1e-5)
