"""The model shapes that the benchmarks use. Weights are random; only the shape matters."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LlamaShape:
    """The geometry of a Llama model.

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

    @property
    def linear_parameters(self) -> int:
        """Weights that decoding one token reads: all linear layers and the output head."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.ffn) + self.vocab * self.hidden


SHAPES: dict[str, LlamaShape] = {
    "tinyllama-1.1b": LlamaShape(
        hidden=2048,
        ffn=5632,
        layers=22,
        heads=32,
        kv_heads=4,
        head_dim=64,
        vocab=32000,
        context=2048,
    ),
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
}
