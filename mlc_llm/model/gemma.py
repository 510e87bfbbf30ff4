"""Gemma: Llama with GeGLU, scaled embeddings, and norms that checkpoints hold less 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mlc_llm.model.gguf import DECODER_TENSORS
from mlc_llm.model.llama import Llama, LlamaConfig, LlamaForCausalLM
from mlc_llm.model.weights import minus_one, plus_one
from mlc_llm.plugin import Weight
from mlc_llm.plugin.gguf import GGUFFamily

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor


class GemmaConfig(LlamaConfig):
    """The hyper-parameters, with the defaults of transformers' ``GemmaConfig``.

    The first Gemma's files say ``hidden_act: gelu``, and mean its approximation with tanh. Later
    ones call the field ``hidden_activation``.
    """

    use_bidirectional_attention: Literal[False] = False

    default_positions: ClassVar[int] = 8192
    defaults: ClassVar[Mapping[str, Any]] = {
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 256,
        "tie_word_embeddings": True,
    }

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        if data.get("hidden_act") == "gelu":
            data["hidden_act"] = "gelu_tanh"
        act = data.pop("hidden_activation", data.get("hidden_act", "gelu_tanh"))
        if act == "gelu":
            raise ValueError("hidden_activation gelu is not supported; Gemma has gelu_pytorch_tanh")
        return super().fill({**cls.defaults, **data, "hidden_act": act})


class GemmaForCausalLM(LlamaForCausalLM):
    """Llama's language model, whose embeddings are scaled."""

    def embed(self, token_ids: Tensor) -> Tensor:
        return super().embed(token_ids) * self.config.hidden_size**0.5


class Gemma(Llama):
    """Gemma as Hugging Face's ``GemmaForCausalLM`` lays it out."""

    name = "gemma"
    config_type: type[LlamaConfig] = GemmaConfig
    module_type: Callable[..., Any] = GemmaForCausalLM
    gguf: GGUFFamily | None = GGUFFamily(
        "gemma",
        DECODER_TENSORS,
        # llama.cpp's files hold norms as they are multiplied, as MLC's do.
        values=dict.fromkeys(("blk.*.attn_norm", "blk.*.ffn_norm", "output_norm"), minus_one),
    )

    def weights(self, config: Any) -> list[Weight]:
        return [
            replace(weight, make=plus_one) if weight.name.endswith("norm.weight") else weight
            for weight in super().weights(config)
        ]


GEMMA = Gemma()
