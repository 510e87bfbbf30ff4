"""What a compiled library says of itself through its function ``_metadata``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from mlc_llm.errors import LibraryError
from mlc_llm.plugin.attention import PAGE_SIZE, AttentionSpec
from mlc_llm.plugin.scheme import StoredTensor


class RepackStep(BaseModel):
    """How some stored tensors become what the kernels read.

    Args:
        function: the library's function; None passes one tensor through as it is. It takes the
            stored tensors and then those that it fills. A function of the same name and
            ``_shapes`` takes the stored ones and returns the shapes of the others.
        inputs: names of the stored tensors.
        outputs: names of the tensors that are made of them.
        dtypes: their dtypes; none where there is no function.
    """

    model_config = ConfigDict(extra="ignore")

    function: str | None
    inputs: list[str]
    outputs: list[str]
    dtypes: list[str] = []


class LayerAttention(BaseModel):
    """What a layer's attention takes and costs: see :class:`~mlc_llm.plugin.AttentionSpec`."""

    model_config = ConfigDict(extra="ignore", from_attributes=True)

    query_heads: int
    kv_heads: int
    key_size: int
    value_size: int
    window: int | None = None
    sink: int = 0
    keys_of: int | None = None

    @property
    def kv_width(self) -> int:
        """Numbers that a token's keys and values have."""
        return self.kv_heads * (self.key_size + self.value_size)


class KVCacheGeometry(BaseModel):
    """The shape of the KV cache's pages.

    Args:
        dtype: of keys and values.
        page_size: tokens of a page.
        layers: all layers, in their order.
    """

    model_config = ConfigDict(extra="ignore")

    dtype: str
    page_size: int
    layers: list[LayerAttention]

    @classmethod
    def of(cls, attention: Sequence[AttentionSpec], dtype: str) -> Self:
        """That of a model that is not compiled yet.

        Args:
            attention: how its layers attend.
            dtype: of keys and values.
        """
        layers = [LayerAttention.model_validate(layer) for layer in attention]
        return cls(dtype=dtype, page_size=PAGE_SIZE, layers=layers)

    @property
    def own(self) -> list[LayerAttention]:
        """The layers that have keys and values of their own, in their order."""
        return [layer for layer in self.layers if layer.keys_of is None]

    @property
    def page_shapes(self) -> list[tuple[int, int]]:
        """For each of these, the shape of a page: (kv heads, elements of a head)."""
        return [
            (layer.kv_heads, layer.kv_width * self.page_size // layer.kv_heads)
            for layer in self.own
        ]

    @property
    def item_size(self) -> int:
        """Bytes of a number."""
        return 2 if self.dtype in ("float16", "bfloat16") else 4


class LibraryMetadata(BaseModel):
    """The JSON object that ``_metadata`` returns."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model_type: str
    quantization: str
    deterministic: bool = False
    params: list[StoredTensor]
    kv_cache: KVCacheGeometry
    repack: list[RepackStep]

    @classmethod
    def parse(cls, text: str, origin: str) -> Self:
        """Read the JSON text.

        Args:
            text: what ``_metadata`` returned.
            origin: the library's path, for the error message.

        Raises:
            LibraryError: it is not what this version reads, or contradicts itself.
        """
        try:
            metadata = cls.model_validate_json(text)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, item['loc'])) or 'text'}: {item['msg']}"
                for item in error.errors()
            )
            raise LibraryError(
                f"The metadata of the library {origin} cannot be read: {problems}. Compile the "
                "library again with this version of mlc_llm.",
                code="library-damaged",
            ) from None
        metadata._check_repack(origin)
        return metadata

    def _check_repack(self, origin: str) -> None:
        """Every stored parameter is the input of exactly one step."""
        used = [name for step in self.repack for name in step.inputs]
        stored = [parameter.name for parameter in self.params]
        if sorted(used) != sorted(stored):
            wrong = sorted({n for n in {*used, *stored} if used.count(n) != 1 or n not in stored})
            raise LibraryError(
                f"The library {origin} is inconsistent: these parameters are not repacked exactly "
                f"once: {', '.join(wrong[:5])}. Compile the library again.",
                code="library-damaged",
            )
