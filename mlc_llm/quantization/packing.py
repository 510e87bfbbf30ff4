"""Quantisation and its inverse, in NumPy, for every scheme.

What a matrix (rows, columns) is stored in is said by :class:`mlc_llm.plugin.scheme.Scheme`. This is
how codes and scales come about; all of it in float32, with scales and minimums as they are stored:

============= ===================================== =========================================
scheme        of a group                            code of a weight w
============= ===================================== =========================================
with a zero   scale = max|w| / zero                 clip(rint(w / scale) + zero, 0, 2 * zero)
with minimums minimum = min(w), scale =             clip(rint((w - minimum) / scale), 0, most)
              max(max(w) - minimum, 0) / most
============= ===================================== =========================================

``most`` is ``2 ** bits - 1``, and the zero must be ``2 ** (bits - 1) - 1``, for which the codes are
symmetric. Weights that others have quantised may have any zero. A scale that rounds to zero is the
dtype's smallest normal number instead, so that it can be divided by. The codes past the end of a
row are 0, and the last group takes no notice of them.

A value differs from its weight by no more than half a scale, and by what was lost where scale and
minimum were rounded to their dtype: with u its unit roundoff (2 ** -11 for float16), ``2 ** (bits -
1) * u * scale`` with a zero and ``2 ** bits * u * scale + u * |minimum|`` with a minimum.

For MLC's schemes, layout and codes are those of MLC's published weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mlc_llm.errors import QuantizationError
from mlc_llm.plugin.scheme import Scheme, stored_tensors
from mlc_llm.quantization.codes import Codes, pack_planes, unpack_planes

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]

BLOCK_WEIGHTS = 1 << 16
"""Weights that are worked on at a time: few enough for their intermediates to stay in the cache."""


def row_blocks(rows: int, columns: int, weights: int = BLOCK_WEIGHTS) -> Iterator[slice]:
    """Slices that cover ``rows``, each of about ``weights`` weights and of one row at least."""
    step = max(1, weights // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def require_quantizable(scheme: Scheme) -> None:
    """Refuse a scheme that weights cannot be quantised to, only read in.

    Raises:
        QuantizationError: its zero is not the one of symmetric codes, or it has two levels.
    """
    if scheme.is_float:
        return
    if scheme.has_two_levels:
        raise QuantizationError(
            f"Weights cannot be quantised to {scheme}: only weights that are stored so already can "
            "be read. Use a scheme of one level."
        )
    symmetric = _symmetric_zero(scheme)
    if scheme.zero not in (None, symmetric):
        raise QuantizationError(
            f"Weights cannot be quantised to {scheme}: only weights that are stored so already can "
            f"be read. With {scheme.bits} bits the zero must be {symmetric}, or each group have a "
            "minimum."
        )


def is_transposed(scheme: Scheme) -> bool:
    """Whether the rows of a matrix are on the second axis of what it is stored in."""
    return scheme.layout == "columns" and not scheme.is_float


def quantize(w: Array, scheme: Scheme) -> list[Array]:
    """Quantise a matrix of weights.

    Args:
        w: the weights (rows, columns), of a floating dtype.
        scheme: how to store them.

    Returns:
        The tensors that the scheme stores, in their order: codes, scales and minimums, or for a
        scheme of floats the weights alone.

    Raises:
        QuantizationError: the weights are not a matrix, hold NaN or infinity, or need a scale or a
            minimum that is too large for the scheme's dtype; or the scheme is not one that weights
            can be quantised to.
    """
    tensors = quantize_rows(w, scheme)
    return [np.ascontiguousarray(t.T) for t in tensors] if is_transposed(scheme) else tensors


def quantize_rows(w: Array, scheme: Scheme) -> list[Array]:
    """Quantise as :func:`quantize`, with rows on the first axis whatever the scheme's layout.

    Each row is quantised by itself, so that a matrix may be quantised some rows at a time.
    """
    require_quantizable(scheme)
    if w.ndim != 2:
        raise QuantizationError(f"Only matrices can be quantised; this has the shape {w.shape}.")
    if scheme.is_float:
        return [to_floats(w, scheme.dtype)]
    tensors = [np.empty((len(w), width), dtype) for width, dtype in _widths(scheme, w.shape[1])]
    for block in row_blocks(*w.shape):
        for tensor, part in zip(tensors, _quantize_block(_float32(w[block]), scheme), strict=True):
            tensor[block] = part
    return tensors


def dequantize(tensors: Sequence[Array], columns: int, scheme: Scheme) -> Floats:
    """Give back the values of quantised weights.

    Args:
        tensors: what :func:`quantize` returns; scales and minimums may be of any floating dtype.
        columns: weights in a row.
        scheme: how they are stored; any zero will do.

    Returns:
        The values (rows, columns).

    Raises:
        QuantizationError: the shapes do not belong together.
    """
    _check_shapes(tensors, columns, scheme)
    if scheme.is_float:
        return _float32(tensors[0])
    by_rows = [t.T if is_transposed(scheme) else t for t in tensors]
    values = np.empty((len(by_rows[0]), columns), np.float32)
    for block in row_blocks(*values.shape):
        values[block] = _dequantize_block([t[block] for t in by_rows], columns, scheme)
    return values


def to_floats(w: Array, dtype: str) -> Array:
    """Round weights of any shape to a floating dtype.

    Raises:
        QuantizationError: they hold NaN or infinity, or what is too large for the dtype.
    """
    return _rounded(w, dtype, "holds")


def _require_finite(w: Array) -> None:
    if not np.isfinite(w).all():
        raise QuantizationError("The weight holds NaN or infinity.", code="weight-not-finite")


def _rounded(exact: Array, dtype: str, what: str) -> Array:
    """Round to a dtype; ``what`` the weight does with these numbers is for the error's message."""
    with np.errstate(over="ignore", under="ignore"):
        rounded: Array = exact.astype(dtype)
    if not np.isfinite(rounded).all():
        _require_finite(exact)
        raise _too_large(what, np.abs(exact).max(), dtype)
    return rounded


def _too_large(what: str, value: np.generic, dtype: str) -> QuantizationError:
    advice = "; use a quantization whose dtype is float32" if dtype == "float16" else ""
    return QuantizationError(
        f"The weight {what} {value:g}, which is too large for {dtype}{advice}.",
        code="weight-too-large",
    )


def _symmetric_zero(scheme: Scheme) -> int:
    return (1 << (scheme.bits - 1)) - 1


def _widths(scheme: Scheme, columns: int) -> list[tuple[int, str]]:
    """How many elements of which dtype each tensor has for a row."""
    tensors = stored_tensors("x.weight", ((1, replace(scheme, layout="rows")),), columns)
    return [(int(tensor.shape[1]), tensor.dtype) for tensor in tensors]


def _check_shapes(tensors: Sequence[Array], columns: int, scheme: Scheme) -> None:
    expected = [t.shape for t in stored_tensors("x.weight", (("rows", scheme),), columns)]
    found = [t.shape for t in tensors]
    axis = expected[0].index("rows")
    heights = {shape[axis] for shape in found if len(shape) == 2}
    for rows in heights:
        if found == [tuple(rows if s == "rows" else s for s in shape) for shape in expected]:
            return
    needed, there = (
        " and ".join(f"({', '.join(map(str, shape))})" for shape in shapes)
        for shapes in (expected, found)
    )
    raise QuantizationError(
        f"Rows of {columns} weights in {scheme} have the shapes {needed}, not {there}."
    )


def _float32(w: Array) -> Floats:
    with np.errstate(over="ignore"):  # what overflows becomes infinity, which is refused
        return w.astype(np.float32)


def _quantize_block(w: Floats, scheme: Scheme) -> list[Array]:
    """Some rows (n, columns) to codes (n, words), scales (n, groups) and perhaps minimums."""
    rows, columns = w.shape
    padded = np.empty((rows, scheme.groups(columns) * scheme.group), np.float32)
    padded[:, :columns] = w
    # The last weight again: it changes neither the largest nor the smallest of its group.
    padded[:, columns:] = w[:, -1:]
    grouped = padded.reshape(rows, -1, scheme.group)
    if scheme.zero is None:
        codes, *others = _with_minimum(grouped, scheme)
    else:
        codes, *others = _with_zero(grouped, scheme, scheme.zero)
    codes = codes.reshape(rows, -1)
    codes[:, columns:] = 0
    return [*pack_planes(codes, scheme), *others]


def _with_zero(grouped: Floats, scheme: Scheme, zero: int) -> tuple[Codes, Array]:
    """The codes (n, groups, group) of weights of that shape, and their scales (n, groups)."""
    largest = np.abs(grouped).max(axis=2)
    _require_finite(largest)
    scale = _scales(largest / np.float32(zero), scheme)
    # A scale that was rounded down to a subnormal may be far below max|w| / zero, hence the clip.
    codes = np.rint(grouped / scale.astype(np.float32)[:, :, None])
    return np.clip(codes + zero, 0, 2 * zero).astype(np.uint8), scale


def _with_minimum(grouped: Floats, scheme: Scheme) -> tuple[Codes, Array, Array]:
    """The codes (n, groups, group) of weights of that shape, their scales and their minimums."""
    most = (1 << scheme.bits) - 1
    smallest, largest = grouped.min(axis=2), grouped.max(axis=2)
    _require_finite(largest)
    minimum = _rounded(smallest, scheme.dtype, "holds")
    lowest = minimum.astype(np.float32)
    with np.errstate(over="ignore"):
        # Not below zero, where all of a group is less than the minimum, which was rounded up.
        span = np.maximum(largest - lowest, 0)
    if not np.isfinite(span).all():
        raise _too_large("spans", (largest.astype(np.float64) - lowest).max(), "float32")
    scale = _scales(span / np.float32(most), scheme)
    codes = np.rint((grouped - lowest[:, :, None]) / scale.astype(np.float32)[:, :, None])
    return np.clip(codes, 0, most).astype(np.uint8), scale, minimum


def _scales(exact: Floats, scheme: Scheme) -> Array:
    """Scales in the scheme's dtype, none of them zero."""
    scale = _rounded(exact, scheme.dtype, "needs the scale")
    scale[scale == 0] = np.finfo(scheme.dtype).smallest_normal
    return scale


def _dequantize_block(tensors: Sequence[Array], columns: int, scheme: Scheme) -> Floats:
    planes, factors = tensors[: len(scheme.planes)], tensors[len(scheme.planes) :]
    codes = unpack_planes(planes, scheme)
    values = codes.astype(np.float32).reshape(len(codes), scheme.groups(columns), scheme.group)
    scale, *minimum = (factor[:, :, None] for factor in _factors(factors, columns, scheme))
    values = values * scale + minimum[0] if minimum else (values - np.float32(scheme.zero)) * scale
    return values.reshape(len(codes), -1)[:, :columns]


def _factors(stored: Sequence[Array], columns: int, scheme: Scheme) -> list[Floats]:
    """Scales and perhaps minimums (n, groups) in float32, of the tensors that hold them."""
    floats = [tensor.astype(np.float32) for tensor in stored]
    if scheme.super_group is None:
        return floats
    return [
        lower * _of_groups(upper, columns, scheme)
        for lower, upper in zip(floats[0::2], floats[1::2], strict=True)
    ]


def _of_groups(upper: Floats, columns: int, scheme: Scheme) -> Floats:
    """What each super group has, for each group."""
    count = (scheme.super_group or 1) // scheme.group
    return np.repeat(upper, count, axis=1)[:, : scheme.groups(columns)]
