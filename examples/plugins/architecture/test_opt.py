"""OPT as transformers computes it. Needs pytest, transformers and torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from mlc_llm_opt import OPT

from mlc_llm.testing import ArchitectureConformance
from mlc_llm.testing.model_folder import write_byte_tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

CONFIG = {
    "hidden_size": 60,  # not a multiple of 16, as the blocks of kernels are
    "num_attention_heads": 3,
    "num_hidden_layers": 3,
    "ffn_dim": 100,
    "max_position_embeddings": 128,
    "vocab_size": 320,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def save_random_opt(folder: Path, **config: object) -> Path:
    """Save a small random OPT in Hugging Face's layout, in which every parameter counts."""
    model = transformers.OPTForCausalLM(transformers.OPTConfig(**{**CONFIG, **config}))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # transformers starts norms at one and biases at zero: leaving them out would not show.
            around = 1.0 if name.endswith("layer_norm.weight") else 0.0
            parameter.copy_(around + 0.2 * torch.randn(parameter.shape, generator=random))
    model.save_pretrained(folder)
    write_byte_tokenizer(folder / "tokenizer.json", model.config.vocab_size)
    return folder


class TestOPT(ArchitectureConformance):
    architecture = OPT()

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Path:
        return save_random_opt(tmp_path / "opt", activation_function="gelu")

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
        ("do_layer_norm_before", False, "do_layer_norm_before"),
        ("_remove_final_layer_norm", True, "remove_final_layer_norm"),
        ("word_embed_proj_dim", 30, "word_embed_proj_dim must be hidden_size"),
        ("activation_function", "quick_gelu", "'quick_gelu' is not supported"),
        ("num_attention_heads", 7, "must be a multiple of 7 heads"),
        ("context_window_size", 129, "at most n_positions"),
        ("sliding_window_size", 64, "sliding_window_size"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(field: str, wrong: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        OPT().config({**CONFIG, field: wrong})
