"""Group quantisation in MLC's storage layout, in NumPy.

Layout of a weight (n, k) with 4 bits in groups of 32, the last group of a row perhaps ragged:

- ``q_scale`` (n, ceil(k / 32)): max|w| / 7 of each group, rounded to the model's dtype. It is never
  zero: where the rounded value is zero, it is the dtype's smallest normal number.
- ``q_weight`` uint32 (n, 4 * ceil(k / 32)): the codes clip(rint(w / q_scale) + 7, 0, 14), eight in
  a word, the first in the lowest bits. The codes past k are 0.

A weight's value is (code - 7) * q_scale. All arithmetic is in float32, with the rounded scale.
The layout and the codes are those of MLC's published weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mlc_llm.errors import QuantizationError
from mlc_llm.quantization.scheme import QUANTIZATIONS, Scheme

Array = npt.NDArray[np.generic]

BLOCK_WEIGHTS = 1 << 16
"""Weights that are worked on at a time: few enough for their intermediates to stay in the cache."""


def row_blocks(rows: int, columns: int, weights: int = BLOCK_WEIGHTS) -> Iterator[slice]:
    """Slices that cover ``rows``, each of about ``weights`` weights and of one row at least."""
    step = max(1, weights // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def quantize(w: Array, scheme: Scheme) -> tuple[npt.NDArray[np.uint32], Array]:
    """Quantise a weight.

    Args:
        w: the weight (n, k), of a floating dtype.
        scheme: a scheme of the kind ``group``.

    Returns:
        ``q_weight`` uint32 (n, words) and ``q_scale`` (n, groups) in the scheme's model dtype.

    Raises:
        QuantizationError: the weight is no matrix, holds NaN or infinity, or needs a scale that is
            too large for the scheme's dtype.
    """
    _require_groups(scheme)
    if w.ndim != 2:
        raise QuantizationError(f"{scheme.name} quantises matrices; this has the shape {w.shape}.")
    rows, columns = w.shape
    q_weight = np.empty((rows, scheme.words(columns)), scheme.storage_dtype)
    q_scale = np.empty((rows, scheme.groups(columns)), scheme.model_dtype)
    for block in row_blocks(rows, columns):
        with np.errstate(over="ignore"):  # what overflows becomes infinity, which is refused
            values = w[block].astype(np.float32)
        q_weight[block], q_scale[block] = _quantize_block(values, scheme)
    return q_weight, q_scale


def dequantize(
    q_weight: Array, q_scale: Array, k: int, scheme: Scheme = QUANTIZATIONS["q4f16_1"]
) -> npt.NDArray[np.float32]:
    """Give back the values of a quantised weight.

    Args:
        q_weight: the codes, uint32 (n, words).
        q_scale: the scales (n, groups), of a floating dtype.
        k: weights in a row.
        scheme: the scheme; the dtype of the scales is that of ``q_scale``.

    Returns:
        The values, float32 (n, k).

    Raises:
        QuantizationError: the shapes do not belong together.
    """
    _require_groups(scheme)
    expected = (scheme.words(k), scheme.groups(k))
    if q_weight.ndim != 2 or q_scale.ndim != 2 or len(q_weight) != len(q_scale):
        found = f"{q_weight.shape} and {q_scale.shape}"
        raise QuantizationError(f"Codes and scales are matrices of one height, not {found}.")
    if (q_weight.shape[1], q_scale.shape[1]) != expected:
        raise QuantizationError(
            f"Rows of {k} weights have {expected[0]} words and {expected[1]} scales in "
            f"{scheme.name}, not {q_weight.shape[1]} and {q_scale.shape[1]}."
        )
    values = np.empty((len(q_weight), k), np.float32)
    for block in row_blocks(len(q_weight), k):
        values[block] = _dequantize_block(q_weight[block], q_scale[block], k, scheme)
    return values


def _require_groups(scheme: Scheme) -> None:
    if scheme.kind != "group":
        raise QuantizationError(f"{scheme.name} does not quantise in groups.")


def _quantize_block(
    w: npt.NDArray[np.float32], scheme: Scheme
) -> tuple[npt.NDArray[np.uint32], Array]:
    rows, columns = w.shape
    groups = scheme.groups(columns)
    padded = np.zeros((rows, groups * scheme.group_size), np.float32)
    padded[:, :columns] = w
    grouped = padded.reshape(rows, groups, scheme.group_size)
    scale = _scales(grouped, scheme)
    # A scale that was rounded down to a subnormal may be far below max|w| / 7, hence the clip.
    codes = np.rint(grouped / scale.astype(np.float32)[:, :, None])
    codes = np.clip(codes + scheme.zero_code, 0, 2 * scheme.zero_code).astype(np.uint32)
    codes = codes.reshape(rows, -1)
    codes[:, columns:] = 0
    return _pack(codes, scheme), scale


def _scales(grouped: npt.NDArray[np.float32], scheme: Scheme) -> Array:
    """The scale of each group: weights (n, groups, group size) to scales (n, groups)."""
    scale: Array
    largest = np.abs(grouped).max(axis=2, initial=0.0)
    if not np.isfinite(largest).all():
        raise QuantizationError("The weight holds NaN or infinity.")
    with np.errstate(over="ignore", under="ignore"):
        scale = (largest / np.float32(scheme.zero_code)).astype(scheme.model_dtype)
    if not np.isfinite(scale).all():
        raise QuantizationError(
            f"The weight holds {largest.max():g}, whose scale is too large for "
            f"{scheme.model_dtype}; use a quantization whose scales are float32."
        )
    scale[scale == 0] = np.finfo(scheme.model_dtype).smallest_normal
    return scale


def _pack(codes: npt.NDArray[np.uint32], scheme: Scheme) -> npt.NDArray[np.uint32]:
    """Codes (n, m) to words (n, m / codes per word), the first code in the lowest bits."""
    per_word = scheme.codes_per_word
    words = codes[:, 0::per_word].copy()
    for position in range(1, per_word):
        words |= codes[:, position::per_word] << np.uint32(position * scheme.bits)
    return words


def _dequantize_block(
    q_weight: Array, q_scale: Array, columns: int, scheme: Scheme
) -> npt.NDArray[np.float32]:
    rows = len(q_weight)
    shifts = np.arange(scheme.codes_per_word, dtype=np.uint32) * np.uint32(scheme.bits)
    mask = np.uint32((1 << scheme.bits) - 1)
    codes = (q_weight.astype(np.uint32)[:, :, None] >> shifts) & mask
    centred = codes.astype(np.float32).reshape(rows, q_scale.shape[1], scheme.group_size)
    centred -= np.float32(scheme.zero_code)
    values = centred * q_scale.astype(np.float32)[:, :, None]
    return values.reshape(rows, -1)[:, :columns]
