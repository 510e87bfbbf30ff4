"""How kernels enter the module that is being built, and how a model's layers call them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op
from tvm.relax.frontend.nn.core import wrap_nested


@lru_cache(maxsize=128)
def add_kernel(builder: relax.BlockBuilder, kernel: tirx.PrimFunc, name: str) -> tvm.ir.GlobalVar:
    """Add a kernel under a name that is made unique; kernels that are equal are added once.

    TVM finds an equal one by the hash of the whole kernel, which takes as long as a pass over it.
    A model calls the same kernel in each layer, so what was added is remembered.
    """
    return builder.add_func(kernel.without_attr("global_symbol"), name)


def call_kernel(
    kernel: tirx.PrimFunc, name: str, args: Sequence[nn.Tensor], shape: Sequence[Any], dtype: str
) -> nn.Tensor:
    """Emit a call of a kernel with one output.

    Args:
        kernel: takes the arguments' buffers, then the output's, and then perhaps buffers of fixed
            sizes to write to as it likes. (What TVM's pool would give it may move when another
            kernel asks for more, and a kernel that was captured goes on to write there.)
        name: what it is called in the library.
        args: the arguments.
        shape: the output's shape.
        dtype: the output's dtype.
    """
    builder = relax.BlockBuilder.current()
    made = [relax.TensorType(list(shape), dtype), *scratch_types(kernel, len(args) + 1)]
    result = relax.call_tir(
        add_kernel(builder, kernel, name),
        [argument._expr for argument in args],
        made if len(made) > 1 else made[0],
    )
    output = relax.TupleGetItem(result, 0) if len(made) > 1 else result
    return wrap_nested(builder.emit(output), name=name)


def scratch_types(kernel: tirx.PrimFunc, given: int) -> list[relax.TensorType]:
    """The buffers of a kernel after the first ``given``, all of fixed sizes."""
    types = [parameter.ty for parameter in kernel.params[given:]]
    return [relax.TensorType([int(n) for n in one.shape], str(one.dtype)) for one in types]


def over_rows(x: nn.Tensor, compute: Callable[..., nn.Tensor], *others: nn.Tensor) -> nn.Tensor:
    """What a function of matrices computes of the last axis of a tensor of any rank.

    Args:
        x: (..., columns).
        compute: (rows, columns) to (rows, columns of the result).
        others: tensors that ``compute`` takes after x, with the same axes but the last.
    """
    if len(x.shape) == 2:
        return compute(x, *others)
    rows = math.prod(x.shape[:-1])
    y = compute(*(op.reshape(one, (rows, one.shape[-1])) for one in (x, *others)))
    return op.reshape(y, (*x.shape[:-1], y.shape[1]))


def has_kind(x: nn.Tensor, shape: Sequence[Any], dtype: str) -> bool:
    """Whether a tensor has exactly this shape, in which sizes may be symbolic, and this dtype."""
    return (
        x.dtype == dtype
        and len(x.shape) == len(shape)
        and all(map(tvm_ffi.structural_equal, x.shape, shape))
    )


def change_in_place(
    kernel: tirx.PrimFunc, name: str, args: Sequence[nn.Tensor], changed: Sequence[int]
) -> tuple[nn.Tensor, ...]:
    """Emit a call of a kernel that changes some of its arguments and makes nothing else.

    Args:
        kernel: takes the arguments' buffers.
        name: what it is called in the library.
        args: the arguments. Of those that change, only what is returned may be used from now on.
        changed: the indices of those that change.

    Returns:
        The changed arguments.
    """
    builder = relax.BlockBuilder.current()
    types = [args[index]._expr.ty for index in changed]
    call = relax.op.call_tir_inplace(
        add_kernel(builder, kernel, name),
        relax.Tuple([argument._expr for argument in args]),
        list(changed),
        types,
    )
    result = wrap_nested(builder.emit(call), name=name)
    return result if isinstance(result, tuple) else (result,)
