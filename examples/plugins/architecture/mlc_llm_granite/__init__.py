"""IBM's Granite 3: Llama with four factors, as ``GraniteForCausalLM`` of transformers has them.

What stands here is imported to list and to convert models, and so does without TVM. The Relax
module is in ``module.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import PositiveFloat

from mlc_llm.model.llama import Llama, LlamaConfig
from mlc_llm.plugin import AttentionSpec

if TYPE_CHECKING:
    from tvm.relax.frontend import nn


class GraniteConfig(LlamaConfig):
    """Llama's hyper-parameters, and Granite's own under the names of its ``config.json``.

    Args:
        embedding_multiplier: factor of the token embeddings.
        attention_multiplier: factor of the attention scores, instead of ``head_dim ** -0.5``.
        residual_multiplier: factor of what a block adds to the residual.
        logits_scaling: divisor of the logits.
    """

    embedding_multiplier: PositiveFloat = 1.0
    attention_multiplier: PositiveFloat = 1.0
    residual_multiplier: PositiveFloat = 1.0
    logits_scaling: PositiveFloat = 1.0


class Granite(Llama):
    """Granite 3; its weights have Llama's names and shapes."""

    name = "granite"

    def config(self, data: Mapping[str, Any]) -> GraniteConfig:
        return GraniteConfig.model_validate(data)

    def attention(self, config: Any) -> list[AttentionSpec]:
        layers = super().attention(config)
        return [replace(layer, scale=config.attention_multiplier) for layer in layers]

    def module(self, config: Any, dtype: str) -> nn.Module:
        from mlc_llm_granite.module import GraniteForCausalLM

        return GraniteForCausalLM(config, self.attention(config), dtype)
