"""The architecture interface: a config, a Relax module and a weight map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

from mlc_llm.plugin.attention import AttentionSpec
from mlc_llm.version import INTERFACE_VERSION

if TYPE_CHECKING:
    from tvm.relax.frontend import nn


class ModelConfig(BaseModel):
    """What every architecture's config says; the architecture adds its own fields.

    It reads both Hugging Face's ``config.json`` and the ``model_config`` of MLC's folders, whose
    names for these fields are the same; other fields are ignored.

    Args:
        context_window_size: positions of the context window; -1 where none is set.
        max_position_embeddings: positions that the model can read, as its own file says.
        position_embedding_base: RoPE's base, ``rope_theta`` in Hugging Face's files.
        rope_scaling: RoPE's scaling, as ``mlc_llm.model.rope`` reads it, or None.
    """

    model_config = ConfigDict(extra="ignore", protected_namespaces=(), frozen=True)

    hidden_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt
    head_dim: PositiveInt
    vocab_size: PositiveInt
    context_window_size: int
    max_position_embeddings: int | None = None
    sliding_window_size: int = -1
    attention_sink_size: int = -1
    prefill_chunk_size: int = 2048
    position_embedding_base: float = 10000.0
    rope_scaling: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Fill what a file may leave out because it follows from the other fields."""
        if not isinstance(data, Mapping):
            return data
        data = {key: value for key, value in data.items() if value is not None}
        heads, hidden = data.get("num_attention_heads"), data.get("hidden_size")
        data.setdefault("num_key_value_heads", heads)
        if isinstance(heads, int) and isinstance(hidden, int) and heads > 0:
            data.setdefault("head_dim", hidden // heads)
        for name, other in permutations(("context_window_size", "max_position_embeddings")):
            if name not in data and other in data:
                data[name] = data[other]
        if "sliding_window_size" not in data and "sliding_window" in data:
            data["sliding_window_size"] = data["sliding_window"]
        return {**_rope(data), **data}

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads ({self.num_attention_heads}) is no multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})"
            )
        return self

    @property
    def rope_depends_on_window(self) -> bool:
        """Whether compiled code is right for one size of the context window only."""
        return (self.rope_scaling or {}).get("rope_type") in ("dynamic", "longrope", "su")

    def shape(self) -> dict[str, Any]:
        """The fields that compiled code depends on, as a JSON object.

        Not among them: the vocabulary's size, which is symbolic, and the sizes of a prefill chunk
        and of the context window, which are given at run time, unless RoPE depends on the window.
        """
        given_later = {"vocab_size", "prefill_chunk_size"}
        if not self.rope_depends_on_window:
            given_later |= {"context_window_size", "max_position_embeddings"}
        if self.sliding_window_size <= 0:
            given_later.add("attention_sink_size")
        return self.model_dump(mode="json", exclude=given_later)


def _rope(data: Mapping[str, Any]) -> dict[str, Any]:
    """RoPE's base and scaling as Hugging Face's files write them, under the names used here."""
    # Since version 5, transformers writes both into ``rope_parameters``.
    parameters = data.get("rope_parameters") or {}
    if not isinstance(parameters, Mapping):
        raise ValueError(f"rope_parameters is to be an object, not {parameters!r}")
    scaling = {key: value for key, value in parameters.items() if key != "rope_theta"}
    theta = parameters.get("rope_theta") or data.get("rope_theta")
    rope = {"position_embedding_base": theta, "rope_scaling": scaling}
    return {key: value for key, value in rope.items() if value}


@dataclass(frozen=True)
class Weight:
    """Where one parameter of the MLC layout comes from.

    Args:
        name: the parameter's name in MLC's layout, ending in ``.weight`` or ``.bias``.
        sources: names of the checkpoint's tensors, concatenated along the first axis.
        quantize: whether quantisation applies to it (linear and embedding weights).
    """

    name: str
    sources: tuple[str, ...]
    quantize: bool = True


class Architecture(ABC):
    """A model family. Its entry point in ``mlc_llm.architectures`` names an instance or a class."""

    interface_version: int = INTERFACE_VERSION
    name: str
    """The ``model_type`` of MLC's folders and of Hugging Face's ``config.json``."""

    @abstractmethod
    def config(self, data: Mapping[str, Any]) -> ModelConfig:
        """Read a ``config.json`` of Hugging Face's or the ``model_config`` of a model folder.

        Args:
            data: the JSON object; fields that the architecture does not know are ignored.

        Raises:
            ValueError: a field is missing or wrong, or asks for what would be computed wrongly.
        """

    @abstractmethod
    def attention(self, config: Any) -> list[AttentionSpec]:
        """How each layer attends, in their order.

        Args:
            config: what :meth:`config` returned.
        """

    @abstractmethod
    def module(self, config: Any, dtype: str) -> nn.Module:
        """The Relax module, an ``mlc_llm.model.causal_lm.CausalLM`` with parameters in ``dtype``.

        Imports TVM.

        Args:
            config: what :meth:`config` returned; its ``vocab_size`` may be 1, since the
                vocabulary's size is symbolic in compiled code.
            dtype: ``float16`` or ``float32``.
        """

    @abstractmethod
    def weights(self, config: Any) -> list[Weight]:
        """The weight map: every parameter of the MLC layout, in the model's order.

        Args:
            config: what :meth:`config` returned.

        Returns:
            As many as the module has parameters, under the same names.
        """

    def ignores(self, name: str) -> bool:
        """Whether a checkpoint's tensor is known and not needed; any other left over is an error.

        Args:
            name: the tensor's name in the checkpoint.
        """
        return False
