"""The table of what makes a GPU's kernels. A backend replaces those that it has better ones for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tvm.tirx import PrimFunc

from mlc_llm.compile.gpu import attention
from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.kernels.activation import activation, gated
from mlc_llm.compile.gpu.kernels.embedding import embedding
from mlc_llm.compile.gpu.kernels.linear import Product, gemv, matmul
from mlc_llm.compile.gpu.kernels.norm import head_norm, layer_norm, rms_norm
from mlc_llm.compile.gpu.kernels.weight import KernelWeight
from mlc_llm.model.layers import ActivationName
from mlc_llm.plugin import AttentionSpec


class MakeProduct(Protocol):
    """Makes a kernel of x, the norm, the tensors of the weight, the bias, the residual, and y.

    Norm, bias and residual are there where the product has them, and the kernel also computes what
    follows the product: see :class:`~mlc_llm.compile.gpu.kernels.linear.Product`. The tensors of
    the weight are those of :func:`mlc_llm.plugin.scheme.stored_tensors`, in that order.
    """

    def __call__(self, product: Product, capabilities: GPUCapabilities, /) -> PrimFunc: ...


class FoldsNorm(Protocol):
    """Whether ``gemv`` makes a kernel for a product that has a norm.

    Without one the norm is a kernel of its own, and ``gemv`` is asked for the product alone.
    """

    def __call__(self, product: Product, capabilities: GPUCapabilities, /) -> bool: ...


def folds_no_norm(_product: Product, _capabilities: GPUCapabilities) -> bool:
    """The shared kernels do not: each workgroup would need the whole row before it begins."""
    return False


class MakeEmbedding(Protocol):
    """Makes a kernel of ids (m,) int32, the tensors of the table, and rows (m, columns)."""

    def __call__(
        self, table: KernelWeight, dtype: str, capabilities: GPUCapabilities, /
    ) -> PrimFunc: ...


class MakeRMSNorm(Protocol):
    """Makes a kernel of x (m, k), w (k,) and y (m, k)."""

    def __call__(
        self,
        columns: int,
        eps: float,
        unit_offset: bool,
        weight_dtype: str,
        dtype: str,
        capabilities: GPUCapabilities,
        /,
    ) -> PrimFunc: ...


class MakeHeadNorm(Protocol):
    """Makes a kernel of qkv (m, qkv_width), w of queries and w of keys (key_size,), and y as qkv.

    The heads of queries and keys are normalised as by :class:`MakeRMSNorm`'s, values are copied.
    """

    def __call__(
        self,
        spec: AttentionSpec,
        eps: float,
        unit_offset: bool,
        weight_dtype: str,
        dtype: str,
        capabilities: GPUCapabilities,
        /,
    ) -> PrimFunc: ...


class MakeLayerNorm(Protocol):
    """Makes a kernel of x (m, k), w (k,), b (k,) unless its dtype is None, and y (m, k)."""

    def __call__(
        self,
        columns: int,
        eps: float,
        weight_dtype: str,
        bias_dtype: str | None,
        dtype: str,
        capabilities: GPUCapabilities,
        /,
    ) -> PrimFunc: ...


class MakeActivation(Protocol):
    """Makes a kernel of x and y (m, columns); of a gated activation, x is (m, 2 columns)."""

    def __call__(
        self, name: ActivationName, columns: int, dtype: str, capabilities: GPUCapabilities, /
    ) -> PrimFunc: ...


class MakeAttention(Protocol):
    """Makes a kernel of attention, whose arguments :class:`~mlc_llm.plugin.AttentionKernels` lists.

    ``dtype`` is that of the pages, ``activation_dtype`` that of queries and results. What a kernel
    does not depend on is the same in all descriptions that the maker is given.
    """

    def __call__(
        self,
        spec: AttentionSpec,
        dtype: str,
        activation_dtype: str,
        capabilities: GPUCapabilities,
        /,
    ) -> PrimFunc: ...


@dataclass(frozen=True)
class KernelMakers:
    """What makes each kernel. A maker gives the same kernel again for the same arguments.

    The defaults are the kernels that GPUs share. A backend takes others with::

        kernels = KernelMakers(gemv=my_gemv)

    in its codegen. A maker may decide by its arguments, and call the shared one for the rest.

    Args:
        gemv: a product with one row.
        folds_norm: which norms ``gemv`` takes in.
        matmul: a product with any number of rows.
        embedding: rows of a table.
        rms_norm: an RMS norm.
        head_norm: the RMS norms of queries and keys.
        layer_norm: a layer norm.
        activation: a function of each element.
        gated: a function of the first half of each row, times the second.
        append: rotates queries, and puts keys and values into pages.
        rotate: rotates queries.
        prefill: attention of many tokens of each sequence.
        decode: attention of single tokens.
    """

    gemv: MakeProduct = gemv
    folds_norm: FoldsNorm = folds_no_norm
    matmul: MakeProduct = matmul
    embedding: MakeEmbedding = embedding
    rms_norm: MakeRMSNorm = rms_norm
    head_norm: MakeHeadNorm = head_norm
    layer_norm: MakeLayerNorm = layer_norm
    activation: MakeActivation = activation
    gated: MakeActivation = gated
    append: MakeAttention = attention.append
    rotate: MakeAttention = attention.rotate
    prefill: MakeAttention = attention.prefill
    decode: MakeAttention = attention.decode


@dataclass(frozen=True)
class GPU:
    """A GPU as the lowered layers see it.

    Args:
        kernels: what makes its kernels.
        capabilities: what it can do.
    """

    kernels: KernelMakers
    capabilities: GPUCapabilities
