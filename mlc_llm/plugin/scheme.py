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

    Scales and minimums are floats of ``dtype``. With a ``super_group`` they have two levels: those
    of a group are int8, and every ``super_group`` consecutive weights share a float of ``dtype``
    that these are multiplied by: ``scale = q_super * q_scale``, ``minimum = q_super_min * q_min``.

    Codes are packed into words of ``storage``, the first in the lowest bits, and no code lies in
    two words. Codes of 5 and 6 bits, which would leave bits of a word unused, lie in two planes:
    the lower 4 bits are packed as codes of 4 bits, and the upper ones as codes of 1 or 2 bits. A
    group fills whole words of each plane. The tensors of a weight ``NAME.weight`` are, in this
    order:

    ==================== ======================= ======================= ======================
    tensor               layout ``rows``         layout ``columns``      there with
    ==================== ======================= ======================= ======================
    ``NAME.q_weight``    (rows, words)           (words, rows)
    ``NAME.q_high``      (rows, high words)      (high words, rows)      5 or 6 bits
    ``NAME.q_scale``     (rows, groups)          (groups, rows)
    ``NAME.q_super``     (rows, super groups)    (super groups, rows)    two levels
    ``NAME.q_min``       (rows, groups)          (groups, rows)          a minimum
    ``NAME.q_super_min`` (rows, super groups)    (super groups, rows)    two levels, a minimum
    ==================== ======================= ======================= ======================

    Args:
        bits: bits of a code; 16 or 32 for floats.
        dtype: dtype of the scales and minimums (of two levels, the upper ones), or of the floats.
        group: weights that share a scale; 1 for floats.
        zero: the code of 0.0; None for a minimum in each group.
        storage: dtype of the words.
        layout: which axis of the stored tensors comes first.
        super_group: weights that share the upper level of scales and minimums, a multiple of the
            group; None for one level.

    Raises:
        ValueError: the bits are not those of the dtype or below 9, a group does not fill whole
            words, the zero is not a code, or the super group is not a multiple of the group.
    """

    bits: int
    dtype: FloatType
    group: int = 1
    zero: int | None = None
    storage: Literal["uint32"] = "uint32"
    layout: Literal["rows", "columns"] = "rows"
    super_group: int | None = None

    def __post_init__(self) -> None:
        if self.is_float:
            if self.dtype != f"float{self.bits}":
                raise ValueError(f"bits must be those of the dtype {self.dtype}, not {self.bits}")
            return
        if not 1 <= self.bits <= 8:
            raise ValueError(f"bits must be 1 to 8, or 16 or 32 for floats, not {self.bits}")
        for bits in self.planes:
            if self.group < 1 or self.group % (32 // bits):
                raise ValueError(
                    f"group must be a multiple of the {32 // bits} codes of {bits} bits in a word, "
                    f"not {self.group}"
                )
        if self.zero is not None and not 0 <= self.zero < 2**self.bits:
            raise ValueError(f"zero must be a code of {self.bits} bits, not {self.zero}")
        if self.super_group is not None and (self.super_group < 1 or self.super_group % self.group):
            raise ValueError(
                f"super_group must be a multiple of the group {self.group}, not {self.super_group}"
            )

    @property
    def is_float(self) -> bool:
        """Whether the weights are stored as they are."""
        return self.bits >= 16

    @property
    def has_minimum(self) -> bool:
        """Whether each group has a minimum."""
        return not self.is_float and self.zero is None

    @property
    def has_two_levels(self) -> bool:
        """Whether scales and minimums are products of two levels."""
        return not self.is_float and self.super_group is not None

    @property
    def planes(self) -> tuple[int, ...]:
        """Bits of each code in ``q_weight`` and, where codes have two planes, in ``q_high``."""
        return (4, self.bits - 4) if self.bits in (5, 6) else (self.bits,)

    @property
    def codes_per_word(self) -> int:
        """Codes in one word of ``q_weight``."""
        return 32 // self.planes[0]

    @property
    def bits_per_weight(self) -> float:
        """Bits that a weight takes, with its share of scales and minimums."""
        if self.is_float:
            return float(self.bits)
        codes = sum(32 / (32 // bits) for bits in self.planes)
        factors = 2 if self.has_minimum else 1
        width = {"float16": 16, "float32": 32}[self.dtype]
        if self.super_group is None:
            return codes + factors * width / self.group
        return codes + factors * (8 / self.group + width / self.super_group)

    def groups(self, columns: int) -> int:
        """Groups of a row of ``columns`` weights."""
        return -(-columns // self.group)

    def super_groups(self, columns: int) -> int:
        """Super groups of a row of ``columns`` weights; 0 where there is one level."""
        return 0 if self.super_group is None else -(-columns // self.super_group)

    def words(self, columns: int, plane: int = 0) -> int:
        """Words that hold a plane of the codes of a row of ``columns`` weights."""
        return self.groups(columns) * self.group // (32 // self.planes[plane])

    def __str__(self) -> str:
        if self.is_float:
            return self.dtype
        zero = "a minimum" if self.zero is None else f"zero {self.zero}"
        levels = f", two levels over {self.super_group}" if self.has_two_levels else ""
        transposed = ", transposed" if self.layout == "columns" else ""
        return (
            f"{self.bits} bits in groups of {self.group} with {zero}{levels}, "
            f"{self.dtype}{transposed}"
        )


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

    groups, supers = scheme.groups(columns), scheme.super_groups(columns)
    words = [scheme.words(columns, plane) for plane in range(len(scheme.planes))]
    tensors = [
        tensor(f"{stem}.{name}", width, scheme.storage)
        for name, width in zip(("q_weight", "q_high"), words, strict=False)
    ]
    factors = [("q_scale", "q_super"), ("q_min", "q_super_min")][: 1 + scheme.has_minimum]
    for of_group, of_super_group in factors:
        if scheme.has_two_levels:
            tensors.append(tensor(f"{stem}.{of_group}", groups, "int8"))
            tensors.append(tensor(f"{stem}.{of_super_group}", supers, scheme.dtype))
        else:
            tensors.append(tensor(f"{stem}.{of_group}", groups, scheme.dtype))
    return tensors
