"""The quantisation schemes by name, as MLC names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlc_llm.errors import QuantizationError, unknown


@dataclass(frozen=True)
class Scheme:
    """How the weights of linear and embedding layers are stored.

    With the kind ``none`` they stay as they are, in ``model_dtype``. With the kind ``group`` every
    ``group_size`` weights along the reduced axis share one scale in ``model_dtype``, and each of
    them is a code of ``bits`` bits in words of ``storage_dtype``.

    Args:
        name: the quantisation's name.
        kind: ``none`` or ``group``.
        bits: bits of one stored weight.
        group_size: weights that share a scale; 1 where there are no groups.
        model_dtype: dtype of what is not quantised, and of the scales.
        storage_dtype: dtype of the words that hold the codes.
    """

    name: str
    kind: Literal["none", "group"]
    bits: int
    group_size: int
    model_dtype: Literal["float16", "float32"]
    storage_dtype: Literal["uint32"] = "uint32"

    @property
    def codes_per_word(self) -> int:
        """Codes in one word of ``storage_dtype``."""
        return 32 // self.bits

    @property
    def zero_code(self) -> int:
        """The code that stands for 0.0; codes run from 0 to twice this."""
        return (1 << (self.bits - 1)) - 1

    def groups(self, columns: int) -> int:
        """Groups in a row of so many weights, the last one perhaps ragged."""
        return -(-columns // self.group_size)

    def words(self, columns: int) -> int:
        """Words that hold the codes of a row of so many weights."""
        return self.groups(columns) * self.group_size // self.codes_per_word


QUANTIZATIONS: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("q0f16", "none", 16, 1, "float16"),
        Scheme("q0f32", "none", 32, 1, "float32"),
        Scheme("q4f16_1", "group", 4, 32, "float16"),
        Scheme("q4f32_1", "group", 4, 32, "float32"),
    )
}
"""Every scheme by its name."""


def scheme(name: str) -> Scheme:
    """Return the scheme of that name.

    Raises:
        QuantizationError: there is none; the message has the nearest names.
    """
    try:
        return QUANTIZATIONS[name]
    except KeyError:
        raise QuantizationError(unknown("quantization", name, QUANTIZATIONS)) from None
