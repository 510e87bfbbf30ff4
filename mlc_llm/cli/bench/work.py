"""What a kernel has to do at least: the bytes that it moves and the operations that it computes.

Both follow from the shapes of its arguments, and are the same for every device and layout:

    bytes        each argument is read or written once; of a table of embeddings, the rows asked
                 for; of the KV cache, the keys and values that any query sees
    operations   a multiplication and an addition are two

    matrix product   x (m, k), y (m, n)          2 m n k
    attention        keys of d, values of e      2 (d + e) for each query head and key that it sees
    RMS norm         x (m, k)                    4 m k: square, sum, two products
    layer norm       x (m, k)                    8 m k: a sum; difference, square, sum; again the
                                                 difference, two products, the bias
    activation       y (m, k)                    4 m k: the exponential counts as one
    gated activation y (m, k)                    5 m k: a product more

Other kernels only move data, or compute what is not known here: they have no operations. What a
kernel does beyond this (unpacking, rounding, reading twice) makes it look slower, not busier.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import get_args

from mlc_llm.model.layers import ActivationName
from mlc_llm.runtime.metadata import LibraryMetadata
from mlc_llm.runtime.profile import KernelCall, TensorShape

_BITS = re.compile(r"(\d+)(?:x(\d+))?")
_OPERATIONS = {
    "rms_norm": 4,
    "layer_norm": 8,
    **dict.fromkeys(get_args(ActivationName), 4),
    **{f"{name}_mul": 5 for name in get_args(ActivationName)},
}
"""Operations for each element of the result of norms and activations, by the kernel's name."""

_PRODUCTS = ("linear", "matmul", "gemv")
_ROWS_OF_TABLES = ("embedding", "take", "rows_at")


class Arithmetic(StrEnum):
    """What a kernel's multiplications are done in, where the CPU can."""

    FLOAT = "float32"
    INTEGER = "int8"


@dataclass(frozen=True)
class Work:
    """The least that a call has to do.

    Args:
        kernel: what it is called in tables: its name, and the shape of a weight.
        bytes: moved between the kernel and the memory.
        operations: computed; None where they are not known.
        arithmetic: which of the machine's peaks bounds the operations.
    """

    kernel: str
    bytes: float
    operations: float | None
    arithmetic: Arithmetic = Arithmetic.FLOAT


@dataclass(frozen=True)
class WorkModel:
    """The work of the kernels of one model.

    Args:
        metadata: what the library says of itself.
        vocab_size: tokens of the vocabulary.
    """

    metadata: LibraryMetadata
    vocab_size: int

    def of(self, call: KernelCall) -> Work:
        """The work of one call."""
        name = base_name(call.name)
        if call.is_attention:
            return self._attention(name, call)
        if "append" in name:
            return self._append(name, call)
        if any(word in name for word in _PRODUCTS) and len(call.tensors) > 2:
            return _product(name, call.tensors)
        if any(word in name for word in _ROWS_OF_TABLES):
            return self._rows(name, call.tensors)
        return Work(name, _bytes(call.tensors), _elementwise_operations(name, call.tensors[-1]))

    def _rows(self, name: str, tensors: tuple[TensorShape, ...]) -> Work:
        """Rows of a table of embeddings, or of the activations, are looked up."""
        *inputs, output = tensors
        moved = _bytes([output])
        indices = [tensor for tensor in inputs if tensor.dtype.startswith("int")]
        tables = [tensor for tensor in inputs if tensor not in indices]
        rows = output.elements // output.shape[-1]
        if "embedding" in name:
            moved += _bytes(tables) * rows / self.vocab_size
        else:
            moved *= 2
        return Work(name, moved + _bytes(indices), None)

    def _attention(self, name: str, call: KernelCall) -> Work:
        """The queries of one layer, which meet the keys and values that they see."""
        cache, layer = self.metadata.kv_cache, self.metadata.kv_cache.layers[call.layer]
        queries, results = call.tensors[0], call.tensors[-1]
        count = queries.shape[0]
        seen = sum(visible(call.context + i, layer.window, layer.sink) for i in range(count))
        keys = count + held_keys(call.context, layer.window, layer.sink)
        return Work(
            name,
            _bytes([queries, results]) + keys * layer.kv_width * cache.item_size,
            2 * (layer.key_size + layer.value_size) * layer.query_heads * seen,
        )

    def _append(self, name: str, call: KernelCall) -> Work:
        """New keys and values are put into the cache; queries are rotated in place."""
        cache, layer = self.metadata.kv_cache, self.metadata.kv_cache.layers[call.layer]
        given = call.tensors[0]
        rotated = layer.query_heads * layer.key_size * bits(given.dtype) / 8
        kept = layer.kv_width * cache.item_size
        return Work(name, _bytes([given]) + given.shape[0] * (rotated + kept), None)


def base_name(name: str) -> str:
    """A kernel's name without the number that tells it from others of that name."""
    return name.rstrip("0123456789") or name


def visible(position: int, window: int | None, sink: int) -> int:
    """How many keys the query at a position sees, its own included."""
    keys = position + 1
    if window is None or keys <= window:
        return keys
    return window + min(sink, keys - window)


def held_keys(context: int, window: int | None, sink: int) -> int:
    """How many keys, of those in the cache before, any query of a pass sees."""
    if window is None or context < window:
        return context
    # The first query, at the position ``context``, sees the most of them.
    return visible(context, window, sink) - 1


def bits(dtype: str) -> int:
    """The bits of one element: ``float16`` has 16, ``float32x4`` has 128.

    Raises:
        ValueError: the type's name does not tell.
    """
    if dtype == "bool":
        return 8
    match = _BITS.search(dtype)
    if match is None:
        raise ValueError(f"the size of the type {dtype!r} is not known")
    return int(match[1]) * int(match[2] or 1)


def _product(name: str, tensors: tuple[TensorShape, ...]) -> Work:
    """y (m, n) = x (m, k) times a weight, which lies in the tensors between.

    Where the name says so, gate and up projection lie side by side in x, and the kernel multiplies
    their product.
    """
    x, *between, y = tensors
    rows, columns = y.shape[-1], x.shape[-1] // (2 if name.startswith("gated") else 1)
    quantized = any(tensor.dtype.startswith(("uint", "int")) for tensor in between)
    return Work(
        f"{name} {rows} x {columns}",
        _bytes(tensors),
        2 * y.elements * columns,
        Arithmetic.INTEGER if quantized else Arithmetic.FLOAT,
    )


def _elementwise_operations(name: str, output: TensorShape) -> float | None:
    operations = _OPERATIONS.get(name)
    return None if operations is None else operations * output.elements


def _bytes(tensors: Iterable[TensorShape]) -> float:
    return sum(tensor.elements * bits(tensor.dtype) / 8 for tensor in tensors)
