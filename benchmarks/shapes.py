"""The model shapes that the benchmarks use. Weights are random; only the shape matters.

Each is the ``config.json`` of the checkpoint that it is named after, with two differences.
SmolLM2 shares its embedding table with the output head; here every model has a head of its own,
on all sides alike. And a context longer than the announced one is announced for all sides alike
(``tinyllama-1.1b``), because rows are measured beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LlamaShape:
    """The geometry of a Llama or Mistral model.

    Args:
        hidden: size of the residual stream.
        ffn: inner size of the feed-forward layers.
        layers: number of decoder layers.
        heads: number of query heads.
        kv_heads: number of key/value heads.
        head_dim: size of one head.
        vocab: number of tokens.
        context: most tokens that the model's file announces.
        rope_theta: base of the rotary embedding's frequencies.
        norm_eps: epsilon of the RMS norms.
        sliding_window: tokens that a query attends to; None for all.
    """

    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    sliding_window: int | None = None

    @property
    def model_type(self) -> str:
        """The architecture's name, in Hugging Face's and in our configurations."""
        return "llama" if self.sliding_window is None else "mistral"

    @property
    def linear_parameters(self) -> int:
        """Weights that decoding one token reads: all linear layers and the output head."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.ffn) + self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All weights: the linear layers, the head, the embedding table and the norms."""
        norms = (2 * self.layers + 1) * self.hidden
        return self.linear_parameters + self.vocab * self.hidden + norms

    @property
    def kv_elements(self) -> int:
        """Numbers that the KV cache keeps of one token."""
        return 2 * self.layers * self.kv_heads * self.head_dim


SHAPES: dict[str, LlamaShape] = {
    # TinyLlama/TinyLlama-1.1B-Chat-v1.0, which announces a context of 2048.
    "tinyllama-1.1b": LlamaShape(
        hidden=2048,
        ffn=5632,
        layers=22,
        heads=32,
        kv_heads=4,
        head_dim=64,
        vocab=32000,
        context=8192,
    ),
    # HuggingFaceTB/SmolLM2-135M-Instruct.
    "smollm2-135m": LlamaShape(
        hidden=576,
        ffn=1536,
        layers=30,
        heads=9,
        kv_heads=3,
        head_dim=64,
        vocab=49152,
        context=8192,
        rope_theta=100000.0,
    ),
    # meta-llama/Llama-2-7b-chat-hf.
    "llama-2-7b": LlamaShape(
        hidden=4096,
        ffn=11008,
        layers=32,
        heads=32,
        kv_heads=32,
        head_dim=128,
        vocab=32000,
        context=4096,
    ),
    # meta-llama/Llama-3.1-8B-Instruct, without the scaling of its frequencies.
    "llama-3.1-8b": LlamaShape(
        hidden=4096,
        ffn=14336,
        layers=32,
        heads=32,
        kv_heads=8,
        head_dim=128,
        vocab=128256,
        context=131072,
        rope_theta=500000.0,
    ),
    # mistralai/Mistral-7B-v0.1, whose attention slides over 4096 tokens.
    "mistral-7b-v0.1": LlamaShape(
        hidden=4096,
        ffn=14336,
        layers=32,
        heads=32,
        kv_heads=8,
        head_dim=128,
        vocab=32000,
        context=32768,
        sliding_window=4096,
    ),
}
