"""Models from GGUF files, compiled, against transformers in float32 on the dequantised weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlc_llm.convert import convert_source
from mlc_llm.convert.own_types import own_plan
from mlc_llm.convert.source import SourceModel
from mlc_llm.device.cpu import CPU
from mlc_llm.model.llama import LLAMA
from mlc_llm.plugin.scheme import FloatType
from mlc_llm.testing.workbench import Workbench, prompt, replay

from .gguf_files import (
    FFN,
    HEADS,
    HIDDEN,
    KV_HEADS,
    VOCABULARY,
    Array,
    llama_tensors,
    llama_values,
    write_llama,
)

LIKE_Q4_K_M = {
    "attn_v": "Q6_K",
    "blk.1.ffn_down": "Q6_K",
    "token_embd": "Q6_K",
    "": "Q4_K",
}
LIKE_SMOLLM = {"token_embd": "Q8_0", "": "Q4_1"}
OTHERS = {
    "attn_q": "Q5_0",
    "attn_k": "Q5_1",
    "attn_v": "Q8_0",
    "attn_output": "Q5_K",
    "ffn_gate": "MXFP4",
    "ffn_up": "Q4_0",
    "ffn_down": "IQ4_XS",
    "": "F16",
}
CASES: dict[str, tuple[dict[str, str], bool, FloatType, float, float]] = {
    "as Q4_K_M": (LIKE_Q4_K_M, True, "float32", 2e-8, 0.002),
    "as SmolLM": (LIKE_SMOLLM, True, "float32", 2e-8, 0.002),
    "all others": (OTHERS, False, "float32", 2e-8, 0.002),
    "keys and values in float16": (LIKE_Q4_K_M, True, "float16", 6e-7, 0.01),
}
"""Types; whether the head is tied; the dtype of keys and values; how far distributions may diverge,
and how far a logit may be off."""


def reference(kinds: dict[str, str], tied: bool, transformers: Any, torch: Any) -> Any:
    """The same model in transformers, with the weights that the gguf package reads."""
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=FFN,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        tie_word_embeddings=tied,
    )
    model = transformers.LlamaForCausalLM._from_config(
        config, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    values = llama_values(llama_tensors(kinds, tied=tied))
    state = {name: torch.from_numpy(value.copy()) for name, value in values.items()}
    left = model.load_state_dict(state, strict=False)
    assert (left.unexpected_keys, left.missing_keys) == ([], ["lm_head.weight"] if tied else [])
    model.tie_weights()
    return model


def divergence(wanted: Array, found: Array) -> float:
    """Kullback-Leibler divergence of the distributions that logits give, in nats."""
    p, q = (x - np.logaddexp.reduce(x) for x in (wanted.astype(float), found.astype(float)))
    return float((np.exp(p) * (p - q)).sum())


@pytest.mark.matrix(kinds=[LIKE_Q4_K_M, OTHERS], dtype=["float32"])
@pytest.mark.parametrize(("kinds", "tied", "dtype", "most", "error"), CASES.values(), ids=CASES)
def test_logits(
    tmp_path: Path,
    kinds: dict[str, str],
    tied: bool,
    dtype: FloatType,
    most: float,
    error: float,
    transformers: Any,
    torch: Any,
) -> None:
    """With activations in 16 bits."""
    path = write_llama(tmp_path / "model.gguf", kinds, tied=tied)
    source = SourceModel.open(path)
    plan = own_plan(source.checkpoint(), source.architecture, source.config, dtype=dtype)
    folder = convert_source(path, tmp_path / "out", quantization=plan)
    ours = replay(Workbench(tmp_path).load(folder, LLAMA, CPU))
    theirs = reference(kinds, tied, transformers, torch)
    for length in (1, 20, 60):
        ids = prompt(length, VOCABULARY)
        with torch.no_grad():
            wanted = theirs(torch.tensor([ids])).logits[0, -1].numpy()
        found = np.asarray(ours(ids))[:VOCABULARY]
        assert np.abs(found - wanted).max() < error
        assert divergence(wanted, found) < most
