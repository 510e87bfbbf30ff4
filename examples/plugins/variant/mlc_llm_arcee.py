"""Arcee's foundation models, AFM: Llama with another feed-forward block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from mlc_llm.model.layers import Activation, Linear
from mlc_llm.model.llama import Llama, LlamaConfig, LlamaDecoderLayer, LlamaForCausalLM
from mlc_llm.model.module import Module
from mlc_llm.model.weights import linear_weights
from mlc_llm.plugin import Weight

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor


class ArceeConfig(LlamaConfig):
    """Llama's hyper-parameters, with the defaults of transformers' ``ArceeConfig``."""

    rms_norm_eps: float = Field(1e-5, ge=0, le=1, allow_inf_nan=False)

    default_positions = 4096

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        data.setdefault("hidden_act", "relu2")
        return super().fill(data)


class ArceeMLP(Module):
    """The feed-forward block: two projections, and between them the square of what is positive."""

    def __init__(self, config: ArceeConfig) -> None:
        hidden, ffn, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.up_proj = Linear(hidden, ffn, bias=bias)
        self.act = Activation(config.hidden_act)
        self.down_proj = Linear(ffn, hidden, bias=bias)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return self.down_proj(self.act(self.up_proj(x)), add=residual)


class ArceeDecoderLayer(LlamaDecoderLayer):
    mlp_type = ArceeMLP


class ArceeForCausalLM(LlamaForCausalLM):
    layer_type = ArceeDecoderLayer


class Arcee(Llama):
    """Arcee's models, as ``ArceeForCausalLM`` of transformers has them."""

    name = "arcee"
    config_type = ArceeConfig
    module_type = ArceeForCausalLM
    gguf = None

    def mlp_weights(self, config: Any, mlp: str) -> list[Weight]:
        names = ("up_proj", "down_proj")
        return [w for name in names for w in linear_weights(mlp, name, bias=config.mlp_bias)]
