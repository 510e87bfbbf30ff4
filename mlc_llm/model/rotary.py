"""The config that families with rotary position embeddings share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from mlc_llm.model.rope import depends_on_window, rope
from mlc_llm.plugin import AttentionSpec, ModelConfig, Rope
from mlc_llm.plugin.architecture import Size
from mlc_llm.shown import shown

_TRAINED_LENGTH = "original_max_position_embeddings"
_TYPES_WITH_TRAINED_LENGTH = ("llama3", "yarn", "longrope", "su")


class RotaryConfig(ModelConfig):
    """Heads and rotary position embedding, under the names of Hugging Face's files.

    Args:
        num_key_value_heads: heads of keys and values; as many as of queries if left out.
        head_dim: elements of a head; ``hidden_size / num_attention_heads`` if left out.
        position_embedding_base: RoPE's base, ``rope_theta`` in Hugging Face's files.
        rope_scaling: RoPE's scaling, as ``mlc_llm.model.rope`` reads it, or None.
    """

    num_attention_heads: Size
    num_key_value_heads: Size
    head_dim: Size
    position_embedding_base: float = 10000.0
    rope_scaling: dict[str, Any] | None = None

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        data = super().fill(data)
        heads, hidden = data.get("num_attention_heads"), data.get("hidden_size")
        if heads is not None:
            data.setdefault("num_key_value_heads", heads)
        if isinstance(heads, int) and isinstance(hidden, int) and heads > 0:
            data.setdefault("head_dim", hidden // heads)
        return {**data, **_rope(data)}

    @field_validator("rope_scaling")
    @classmethod
    def _name_rope_type(cls, scaling: dict[str, Any] | None) -> dict[str, Any] | None:
        """Put the type where newer files have it; None for plain RoPE."""
        scaling = dict(scaling or {})
        kind = scaling.pop("type", None)
        scaling.setdefault("rope_type", kind or "default")
        return scaling if len(scaling) > 1 or scaling["rope_type"] != "default" else None

    @model_validator(mode="after")
    def _check_heads(self) -> RotaryConfig:
        """Refuse what cannot be computed when the file is read."""
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})"
            )
        self.rope()
        return self

    @property
    def longest_window(self) -> int | None:
        """As every config's; files with scaled RoPE say the length before scaling or after it."""
        longest, scaling = super().longest_window, self.rope_scaling or {}
        factor, unscaled = scaling.get("factor", 1), scaling.get(_TRAINED_LENGTH, longest)
        known = isinstance(factor, int | float) and 1 <= factor < 2**31 and _is_length(unscaled)
        return max(longest, int(factor * unscaled)) if longest is not None and known else longest

    @property
    def depends_on_window(self) -> bool:
        return depends_on_window(self.rope_scaling)

    def attention(self) -> AttentionSpec:
        """How a layer attends, where all of them do so alike."""
        window = self.sliding_window_size if self.sliding_window_size > 0 else None
        return AttentionSpec(
            query_heads=self.num_attention_heads,
            kv_heads=self.num_key_value_heads,
            key_size=self.head_dim,
            value_size=self.head_dim,
            scale=self.head_dim**-0.5,
            rope=self.rope(),
            window=window,
            sink=max(0, self.attention_sink_size) if window else 0,
        )

    def rope(self, part: float | None = None) -> Rope:
        """The rotary position embedding of all layers.

        Args:
            part: how much of a head turns, where ``rope_scaling`` does not say it; None for all.
        """
        window, positions = self.context_window_size, self.max_position_embeddings
        return rope(
            self.head_dim,
            self.position_embedding_base,
            self.rope_scaling,
            window=window if window > 0 else None,
            max_positions=positions if positions and positions > 0 else None,
            partial_rotary_factor=part,
        )


class PartRotaryConfig(RotaryConfig):
    """The same for families of whose heads only the first elements turn.

    Args:
        partial_rotary_factor: how much of a head turns; it may stand among RoPE's own fields.

    Attributes:
        default_part: what a file means that does not say it.
    """

    partial_rotary_factor: float = Field(gt=0, le=1)

    default_part: ClassVar[float]

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        name = "partial_rotary_factor"
        ropes = [data.get(field) for field in ("rope_scaling", "rope_parameters")]
        parts = [rope.get(name) for rope in ropes if isinstance(rope, Mapping)]
        given = [part for part in (*parts, data.get(name)) if part is not None]
        data = super().fill(data)
        scaling = {key: one for key, one in data.get("rope_scaling", {}).items() if key != name}
        return {**data, "rope_scaling": scaling, name: given[0] if given else cls.default_part}

    def rope(self, part: float | None = None) -> Rope:
        return super().rope(self.partial_rotary_factor if part is None else part)


def _rope(data: Mapping[str, Any]) -> dict[str, Any]:
    """RoPE's base and scaling, wherever a file has them; as transformers 5 reads them.

    ``rope_scaling`` comes before ``rope_parameters``, the base and the part of a head that turns in
    either before those beside it, and an ``original_max_position_embeddings`` beside it before that
    in it.
    """
    found = [data[name] for name in ("rope_scaling", "rope_parameters") if name in data]
    for one in found:
        if not isinstance(one, Mapping):
            raise ValueError(f"rope_scaling or rope_parameters must be an object, not {shown(one)}")
    used: Mapping[str, Any] = next(filter(None, found), {})
    scaling = {key: value for key, value in used.items() if value is not None}
    theta = scaling.pop("rope_theta", data.get("rope_theta"))
    base = data.get("position_embedding_base", theta)
    part = scaling.pop("partial_rotary_factor", data.get("partial_rotary_factor", 1))
    if part != 1:
        scaling["partial_rotary_factor"] = part
    if scaling.get("rope_type", scaling.get("type")) in _TYPES_WITH_TRAINED_LENGTH:
        if _TRAINED_LENGTH in data:
            scaling[_TRAINED_LENGTH] = data[_TRAINED_LENGTH]
        elif _is_length(length := data.get("max_position_embeddings")):
            scaling.setdefault(_TRAINED_LENGTH, length)
    read: dict[str, Any] = {"rope_scaling": scaling} if scaling else {}
    return read if base is None else {**read, "position_embedding_base": base}


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
