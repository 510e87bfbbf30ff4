"""GPT-2 as transformers computes it. Needs pytest, transformers and torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from mlc_llm_gpt2 import GPT2

from mlc_llm.testing import ArchitectureConformance
from mlc_llm.testing.model_folder import write_byte_tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

CONFIG = {
    "n_embd": 60,  # not a multiple of 16, as the blocks of kernels are
    "n_head": 3,
    "n_layer": 3,
    "n_positions": 128,
    "vocab_size": 320,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def save_random_gpt2(folder: Path, **config: object) -> Path:
    """Save a small random GPT-2 in Hugging Face's layout, in which every parameter counts."""
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**CONFIG, **config}))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # transformers starts norms at one and biases at zero: leaving them out would not show.
            around = 1.0 if ".ln_" in name and name.endswith("weight") else 0.0
            parameter.copy_(around + 0.2 * torch.randn(parameter.shape, generator=random))
    model.save_pretrained(folder)
    write_byte_tokenizer(folder / "tokenizer.json", model.config.vocab_size)
    return folder


class TestGPT2(ArchitectureConformance):
    architecture = GPT2()

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Path:
        return save_random_gpt2(tmp_path / "gpt2", scale_attn_by_inverse_layer_idx=True)

    @pytest.fixture
    def reference(self, checkpoint: Path) -> Callable[[Sequence[int]], np.ndarray]:
        model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)

        def logits(token_ids: Sequence[int]) -> np.ndarray:
            with torch.no_grad():
                return model(torch.tensor([list(token_ids)])).logits[0, -1].numpy()

        return logits


@pytest.mark.parametrize(
    ("field", "wrong", "said"),
    [
        ("tie_word_embeddings", False, "tie_word_embeddings"),
        ("add_cross_attention", True, "add_cross_attention"),
        ("activation_function", "quick_gelu", "'quick_gelu' is not supported"),
        ("n_head", 7, "must be a multiple of n_head"),
        ("context_window_size", 129, "at most n_positions"),
        ("sliding_window_size", 64, "sliding_window_size"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(field: str, wrong: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        GPT2().config({**CONFIG, field: wrong})
