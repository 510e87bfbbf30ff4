"""The architecture interface: a config, a model and a weight map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from mlc_llm.plugin.attention import AttentionSpec
from mlc_llm.plugin.gguf import GGUFFamily
from mlc_llm.version import INTERFACE_VERSION

_LARGEST = 2**31 - 1
"""Kernels hold sizes and positions in an int32."""

MOST_LAYERS = 10_000
"""Layers that a model may have; the deepest that are published have about 1000."""


def _whole(low: int, high: int) -> BeforeValidator:
    """Refuse what is not a whole number of that range: booleans and texts are not numbers."""

    def check(value: Any) -> int:
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(value)

    return BeforeValidator(check)


Size = Annotated[int, _whole(1, _LARGEST)]
"""A size of a model, such as the width of its hidden states: the type of a config's field."""
Tokens = Annotated[int, _whole(-1, _LARGEST)]
"""A number of tokens; -1 means that there is no such limit."""
Layers = Annotated[int, _whole(1, MOST_LAYERS)]


class ModelConfig(BaseModel):
    """What every architecture's config says; the architecture adds its own fields.

    It reads both Hugging Face's ``config.json`` and the ``model_config`` of MLC's folders, whose
    names for these fields are the same; other fields are ignored. A field that is null counts as
    left out.

    Args:
        context_window_size: positions of the context window; -1 where none is set.
        max_position_embeddings: positions that the model can read, as its own file says.
        sliding_window_size: positions that attention looks back; -1 for all. An architecture
            whose models slide reads it from their own field.
        attention_sink_size: first positions that a sliding window keeps; -1 for none.
        prefill_chunk_size: most tokens of one prefill step.
    """

    model_config = ConfigDict(extra="ignore", protected_namespaces=(), frozen=True)

    hidden_size: Size
    num_hidden_layers: Layers
    vocab_size: Size
    context_window_size: Tokens
    max_position_embeddings: Tokens | None = None
    sliding_window_size: Tokens = -1
    attention_sink_size: Tokens = -1
    prefill_chunk_size: Tokens = 2048

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return cls.fill({key: value for key, value in data.items() if value is not None})

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Add the fields that a file may leave out because they follow from the others.

        Architectures extend it, for names of their own and for defaults.

        Args:
            data: what a file says; it may be changed.
        """
        for name, other in permutations(("context_window_size", "max_position_embeddings")):
            if name not in data and other in data:
                data[name] = data[other]
        return data

    def require_tensors(self, count: int) -> None:
        """Refuse a config that asks for more than its files can hold.

        This is asked before anything is made for each layer. An architecture that makes many of
        something else, such as experts, extends it.

        Args:
            count: how many tensors the files hold.

        Raises:
            ValueError: there are fewer tensors than layers, each of which has one at least.
        """
        if count < self.num_hidden_layers:
            raise ValueError(
                f"num_hidden_layers is {self.num_hidden_layers}, and there are {count} tensors"
            )

    @property
    def longest_window(self) -> int | None:
        """Positions that the model was trained for; None where its files do not say."""
        positions = self.max_position_embeddings
        return positions if positions and positions > 0 else None

    @property
    def depends_on_window(self) -> bool:
        """Whether compiled code is right for one size of the context window only."""
        return False

    def shape(self) -> dict[str, Any]:
        """The fields that compiled code depends on, as a JSON object.

        Not among them: the vocabulary's size, which is symbolic, and the sizes of a prefill chunk
        and of the context window, which are given at run time, unless code depends on the window.
        """
        given_later = {"vocab_size", "prefill_chunk_size"}
        if not self.depends_on_window:
            given_later |= {"context_window_size", "max_position_embeddings"}
        if self.sliding_window_size <= 0:
            given_later.add("attention_sink_size")
        return self.model_dump(mode="json", exclude=given_later)


@dataclass(frozen=True)
class Weight:
    """Where one parameter of the MLC layout comes from.

    Args:
        name: the parameter's name in MLC's layout.
        sources: names of the checkpoint's tensors; none for one of the same name.
        make: makes the parameter of the sources' values, one argument each; None joins them along
            the first axis. It is given float32 arrays.
        orders_rows: whether ``make`` only orders, joins or splits rows, so that it may be given
            quantised weights as they are stored.
    """

    name: str
    sources: tuple[str, ...] = ()
    make: Callable[..., Any] | None = None
    orders_rows: bool = False

    def __post_init__(self) -> None:
        if not self.sources:
            object.__setattr__(self, "sources", (self.name,))


class Architecture(ABC):
    """A model family. Its entry point in ``mlc_llm.architectures`` names an instance or a class.

    Importing it must not import TVM: a model's config is read where only TVM's runtime is there.
    """

    interface_version: int = INTERFACE_VERSION
    name: str
    """The ``model_type`` of MLC's folders and of Hugging Face's ``config.json``."""
    config_type: type[ModelConfig]
    """What a config is read into."""
    module_type: Callable[[Any, Sequence[AttentionSpec]], Any]
    """The model: a subclass of :class:`mlc_llm.model.causal_lm.CausalLM` that is made of a config
    and of what :meth:`attention` says of each layer."""
    gguf: GGUFFamily | None = None
    """How GGUF files name what this family's checkpoints have; None where none are read."""

    def config(self, data: Mapping[str, Any]) -> ModelConfig:
        """Read a ``config.json`` of Hugging Face's or the ``model_config`` of a model folder.

        Args:
            data: the JSON object; fields that the architecture does not know are ignored.

        Raises:
            ValueError: a field is missing or wrong, or asks for what would be computed wrongly.
        """
        return self.config_type.model_validate(data)

    @abstractmethod
    def attention(self, config: Any) -> list[AttentionSpec]:
        """How each layer attends, in their order.

        Args:
            config: what :meth:`config` returned.
        """

    def module(self, config: Any) -> Any:
        """The model, with parameters that are declared and hold nothing.

        Args:
            config: what :meth:`config` returned; its ``vocab_size`` may be 1, since the
                vocabulary's size is symbolic in compiled code.
        """
        return type(self).module_type(config, self.attention(config))

    @abstractmethod
    def weights(self, config: Any) -> list[Weight]:
        """The weight map: every parameter of the MLC layout, in the model's order.

        Args:
            config: what :meth:`config` returned.

        Returns:
            As many as the module has parameters, under the same names.
        """

    def rename(self, name: str) -> str:
        """The name that the weight map has for a checkpoint's tensor.

        For families whose checkpoints differ in their names, such as by a prefix.

        Args:
            name: the tensor's name in the checkpoint.
        """
        return name

    def ignores(self, name: str) -> bool:
        """Whether a checkpoint's tensor is known and not needed; any other left over is an error.

        Args:
            name: the tensor's name, as :meth:`rename` gives it.
        """
        return False

    def copies(self, config: Any) -> Mapping[str, str]:
        """Tensors that a checkpoint may have twice, such as a tied head, by what they repeat.

        Converting checks that they are equal: one that differs is an error, and one that is equal
        is not stored again.

        Args:
            config: what :meth:`config` returned.
        """
        return {}
