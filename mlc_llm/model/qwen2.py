"""Qwen 2 and 2.5: Llama with biases in the projection of queries, keys and values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from mlc_llm.model.gguf import DECODER_TENSORS
from mlc_llm.model.layer_windows import LayerWindowsConfig
from mlc_llm.model.layers import AttentionCache, Linear
from mlc_llm.model.llama import Llama, LlamaDecoderLayer, LlamaForCausalLM
from mlc_llm.model.module import Module
from mlc_llm.plugin import AttentionSpec
from mlc_llm.plugin.gguf import GGUFFamily

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor


class Qwen2Config(LayerWindowsConfig):
    """The hyper-parameters, with the defaults of transformers' ``Qwen2Config``.

    A file's ``sliding_window`` counts where ``use_sliding_window`` is true, and then for the layers
    from ``max_window_layers`` on.
    """

    attention_bias: bool = True

    default_positions: ClassVar[int] = 32768

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        if not data.get("use_sliding_window", "layer_types" in data):
            data.pop("sliding_window", None)
        return super().fill(data)

    @classmethod
    def slides(cls, index: int, data: dict[str, Any]) -> bool:
        first = data.get("max_window_layers", 28)
        return super().slides(index, data) and isinstance(first, int) and index >= first


class Qwen2Attention(Module):
    """Llama's projections, of which the first has another name in MLC's folders.

    Attributes:
        output_bias: whether a bias is also one of the output.
    """

    output_bias: ClassVar[bool] = False

    def __init__(self, config: Qwen2Config, attention: AttentionSpec) -> None:
        hidden, bias = config.hidden_size, config.attention_bias
        self.c_attn = Linear(hidden, attention.qkv_parts, bias=bias)
        self.o_proj = Linear(attention.out_width, hidden, bias=bias and self.output_bias)

    def forward(
        self, x: Tensor, kv_cache: AttentionCache, layer: int, residual: Tensor | None = None
    ) -> Tensor:
        return self.o_proj(kv_cache.attend(layer, self.c_attn(x)), add=residual)


class Qwen2DecoderLayer(LlamaDecoderLayer):
    """Llama's layer with Qwen's attention."""

    attention_type: Callable[..., Module] = Qwen2Attention


class Qwen2ForCausalLM(LlamaForCausalLM):
    """Llama's language model with Qwen's layers."""

    layer_type = Qwen2DecoderLayer


class Qwen2(Llama):
    """Qwen 2 as Hugging Face's ``Qwen2ForCausalLM`` lays it out."""

    name = "qwen2"
    config_type = Qwen2Config
    module_type = Qwen2ForCausalLM
    gguf = GGUFFamily("qwen2", DECODER_TENSORS)
    qkv_name = "c_attn"
    output_bias = Qwen2Attention.output_bias

    def attention(self, config: Any) -> list[AttentionSpec]:
        windowed: list[AttentionSpec] = config.windowed(super().attention(config))
        return windowed


QWEN2 = Qwen2()
