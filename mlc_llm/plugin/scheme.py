"""How weights are stored: a scheme for a matrix, and a plan with the schemes of a whole model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

FloatType = Literal["float16", "float32"]


@dataclass(frozen=True)
class Scheme:
    """How a matrix of weights (rows, columns) is stored.

    With 16 or 32 bits the weights are floats of ``dtype`` and nothing else counts. With fewer bits,
    every ``group`` consecutive weights of a row, of which the last may be cut short by the row's
    end, share a scale, and each weight is a code from 0 to ``2 ** bits - 1``:

    - with a ``zero``, a weight is ``(code - zero) * scale``;
    - without one, each group has a minimum too, and a weight is ``code * scale + minimum``.

    Codes are packed into words of ``storage``, the first in the lowest bits, and no code lies in
    two words. A group fills whole words. The tensors of a weight ``NAME.weight`` are:

    ================= ======================= =======================
    tensor            layout ``rows``         layout ``columns``
    ================= ======================= =======================
    ``NAME.q_weight`` (rows, words)           (words, rows)
    ``NAME.q_scale``  (rows, groups)          (groups, rows)
    ``NAME.q_min``    (rows, groups)          (groups, rows)
    ================= ======================= =======================

    Args:
        bits: bits of a code; 16 or 32 for floats.
        dtype: dtype of the scales and minimums, or of the floats.
        group: weights that share a scale; 1 for floats.
        zero: the code of 0.0; None for a minimum in each group.
        storage: dtype of the words.
        layout: which axis of the stored tensors comes first.

    Raises:
        ValueError: the bits are not those of the dtype or below 9, a group does not fill whole
            words, or the zero is not a code.
    """

    bits: int
    dtype: FloatType
    group: int = 1
    zero: int | None = None
    storage: Literal["uint32"] = "uint32"
    layout: Literal["rows", "columns"] = "rows"

    def __post_init__(self) -> None:
        if self.is_float:
            if self.dtype != f"float{self.bits}":
                raise ValueError(f"bits must be those of the dtype {self.dtype}, not {self.bits}")
            return
        if not 1 <= self.bits <= 8:
            raise ValueError(f"bits must be 1 to 8, or 16 or 32 for floats, not {self.bits}")
        if self.group < 1 or self.group % self.codes_per_word:
            raise ValueError(
                f"group must be a multiple of the {self.codes_per_word} codes of {self.bits} bits "
                f"in a word, not {self.group}"
            )
        if self.zero is not None and not 0 <= self.zero < 2**self.bits:
            raise ValueError(f"zero must be a code of {self.bits} bits, not {self.zero}")

    @property
    def is_float(self) -> bool:
        """Whether the weights are stored as they are."""
        return self.bits >= 16

    @property
    def has_minimum(self) -> bool:
        """Whether each group has a minimum."""
        return not self.is_float and self.zero is None

    @property
    def codes_per_word(self) -> int:
        """Codes in one word of ``storage``."""
        return 32 // self.bits

    @property
    def bits_per_weight(self) -> float:
        """Bits that a weight takes, with its share of the group's scale and minimum."""
        if self.is_float:
            return float(self.bits)
        floats = (2 if self.has_minimum else 1) * {"float16": 16, "float32": 32}[self.dtype]
        return (32 * self.words(self.group) + floats) / self.group

    def groups(self, columns: int) -> int:
        """Groups of a row of ``columns`` weights."""
        return -(-columns // self.group)

    def words(self, columns: int) -> int:
        """Words that hold the codes of a row of ``columns`` weights."""
        return self.groups(columns) * self.group // self.codes_per_word

    def __str__(self) -> str:
        if self.is_float:
            return self.dtype
        zero = "a minimum" if self.zero is None else f"zero {self.zero}"
        transposed = ", transposed" if self.layout == "columns" else ""
        return f"{self.bits} bits in groups of {self.group} with {zero}, {self.dtype}{transposed}"


class Plan(BaseModel):
    """How all weights of a model are stored.

    Args:
        name: what ``mlc-chat-config.json`` calls it, such as ``q4f16_1``.
        dtype: dtype of what is not a matrix of weights, such as norms and biases.
        linear: scheme of the weights of linear layers.
        embedding: scheme of the tables of embeddings.
        exceptions: schemes of weights that differ, by their names (``....weight``): one for the
            whole weight, or one for each of the checkpoint's tensors that it is joined of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    dtype: FloatType
    linear: Scheme
    embedding: Scheme
    exceptions: dict[str, tuple[Scheme, ...]] = {}

    def schemes(self, weight: str, *, embedding: bool = False) -> tuple[Scheme, ...]:
        """The schemes of a weight's parts: one for the whole weight, unless its parts differ.

        Args:
            weight: its name.
            embedding: whether it is the table of an embedding.
        """
        schemes = self.exceptions.get(weight)
        if schemes is None:
            return (self.embedding if embedding else self.linear,)
        return schemes if len(set(schemes)) > 1 else schemes[:1]

    def all_schemes(self) -> set[Scheme]:
        """Every scheme that the plan names."""
        return {self.linear, self.embedding}.union(*self.exceptions.values())


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a model folder.

    Args:
        name: its name.
        shape: its shape; a symbolic size by its name.
        dtype: its dtype.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str


def stored_tensors(
    weight: str, parts: tuple[tuple[int | str, Scheme], ...], columns: int
) -> list[StoredTensor]:
    """The tensors that a matrix of weights is stored in; see :func:`stored_parts`."""
    return [tensor for part in stored_parts(weight, parts, columns) for tensor in part]


def stored_parts(
    weight: str, parts: tuple[tuple[int | str, Scheme], ...], columns: int
) -> list[list[StoredTensor]]:
    """The tensors that each part of a matrix of weights is stored in.

    Args:
        weight: its name, ``NAME.weight``. Of several parts, number i has the name ``NAME.i``.
        parts: rows and scheme of each part.
        columns: columns of the weight.
    """
    stem = weight.removesuffix(".weight")
    stems = [stem] if len(parts) == 1 else [f"{stem}.{index}" for index in range(len(parts))]
    return [
        _stored_part(own, rows, scheme, columns)
        for own, (rows, scheme) in zip(stems, parts, strict=True)
    ]


def _stored_part(stem: str, rows: int | str, scheme: Scheme, columns: int) -> list[StoredTensor]:
    if scheme.is_float:
        return [StoredTensor(f"{stem}.weight", (rows, columns), scheme.dtype)]

    def tensor(name: str, width: int, dtype: str) -> StoredTensor:
        by_rows = scheme.layout == "rows"
        return StoredTensor(name, (rows, width) if by_rows else (width, rows), dtype)

    groups = scheme.groups(columns)
    tensors = [
        tensor(f"{stem}.q_weight", scheme.words(columns), scheme.storage),
        tensor(f"{stem}.q_scale", groups, scheme.dtype),
    ]
    if scheme.has_minimum:
        tensors.append(tensor(f"{stem}.q_min", groups, scheme.dtype))
    return tensors
