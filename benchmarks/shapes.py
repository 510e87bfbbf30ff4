"""The model shapes that the benchmarks use. Weights are random; only the shape matters.

Each is the ``config.json`` of the checkpoint that it is named after, with two differences.
SmolLM2 shares its embedding table with the output head; here it has a head of its own, on all sides
alike. And a context longer than the announced one is announced for all sides alike
(``tinyllama-1.1b``), because rows are measured beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.families import FAMILIES


@dataclass(frozen=True)
class ModelShape:
    """The geometry of a model with Llama's matrices.

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
        sliding_window: tokens that a query attends to, in the layers that have a window; None for
            all.
        model_type: the family, a key of :data:`~benchmarks.families.FAMILIES`.
        tied: whether the embedding table is the output head, too.
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
    model_type: str = "llama"
    tied: bool = False

    @property
    def linear_parameters(self) -> int:
        """Weights that decoding one token reads: all linear layers and the output head."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.ffn) + self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All weights: the linear layers, the head, the embedding table and the norms."""
        table = 0 if self.tied else self.vocab * self.hidden
        of_layer = FAMILIES[self.model_type].norms
        norms = sum(self.head_dim if norm.of_head else self.hidden for norm in of_layer)
        return self.linear_parameters + table + self.layers * norms + self.hidden

    @property
    def kv_elements(self) -> int:
        """Numbers that the KV cache keeps of one token."""
        return 2 * self.layers * self.kv_heads * self.head_dim


SHAPES: dict[str, ModelShape] = {
    # TinyLlama/TinyLlama-1.1B-Chat-v1.0, which announces a context of 2048.
    "tinyllama-1.1b": ModelShape(
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
    "smollm2-135m": ModelShape(
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
    "llama-2-7b": ModelShape(
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
    "llama-3.1-8b": ModelShape(
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
    "mistral-7b-v0.1": ModelShape(
        hidden=4096,
        ffn=14336,
        layers=32,
        heads=32,
        kv_heads=8,
        head_dim=128,
        vocab=32000,
        context=32768,
        sliding_window=4096,
        model_type="mistral",
    ),
    # Qwen/Qwen3-0.6B.
    "qwen3-0.6b": ModelShape(
        hidden=1024,
        ffn=3072,
        layers=28,
        heads=16,
        kv_heads=8,
        head_dim=128,
        vocab=151936,
        context=40960,
        rope_theta=1000000.0,
        norm_eps=1e-6,
        model_type="qwen3",
        tied=True,
    ),
    # google/gemma-3-1b-it: in 22 of 26 layers attention slides over 512 tokens.
    "gemma3-1b": ModelShape(
        hidden=1152,
        ffn=6912,
        layers=26,
        heads=4,
        kv_heads=1,
        head_dim=256,
        vocab=262144,
        context=32768,
        rope_theta=1000000.0,
        norm_eps=1e-6,
        sliding_window=512,
        model_type="gemma3_text",
        tied=True,
    ),
}
