"""The function of a library that creates TVM's paged KV cache with a device's kernels."""

from __future__ import annotations

import tvm
from tvm import relax, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.llm.kv_cache import AttnKind, RopeMode

from mlc_llm.compile.kernel_call import add_kernel
from mlc_llm.plugin import AttentionKernels, ModelConfig

PAGE_SIZE = 16
"""Tokens of a page; TVM's kernels and ours are built for it."""

SIZES = (
    "max_batch_size",
    "max_total_seq_len",
    "prefill_chunk_size",
    "page_size",
    "support_sliding_window",
)
"""The arguments of the creating function, each a shape of one number."""


def create_kv_cache(
    config: ModelConfig, kernels: AttentionKernels, dtype: str, sizes: list[tirx.Var]
) -> nn.Object:
    """Emit the call that creates the cache.

    RoPE is applied when keys are appended, by the kernel ``split_rotary``, which knows base and
    scaling itself; the scale and base among the arguments are not used.

    Args:
        config: the model's geometry.
        kernels: the device's kernels.
        dtype: dtype of keys and values.
        sizes: the variables named by :data:`SIZES`.
    """
    builder = relax.BlockBuilder.current()

    def kernel(name: str) -> tvm.ir.GlobalVar:
        return add_kernel(builder, getattr(kernels, name), f"kv_cache_{name}")

    def backend(name: str) -> relax.Tuple:
        return relax.Tuple([tvm.ir.StringImm("tirx"), kernel(name)])

    absent = relax.Tuple([])
    layers = config.num_hidden_layers
    return nn.Object(
        _expr=relax.call_pure_packed(
            "vm.builtin.paged_attention_kv_cache_create",
            relax.ShapeExpr(sizes),
            relax.ShapeExpr([0, layers]),
            relax.prim_value(config.num_attention_heads),
            relax.prim_value(config.num_key_value_heads),
            relax.prim_value(config.head_dim),
            relax.prim_value(config.head_dim),
            relax.ShapeExpr([int(AttnKind.MHA)] * layers),
            relax.prim_value(False),
            relax.prim_value(int(RopeMode.NORMAL)),
            relax.prim_value(1),
            relax.prim_value(1),
            relax.prim_value(0),
            relax.op.zeros((), dtype),
            kernel("transpose_append"),
            relax.prim_value(0),  # multi-head latent attention has its own append
            backend("prefill_ragged"),
            backend("prefill"),
            backend("decode"),
            absent,  # prefill with the cache's own sliding window
            absent,  # decode with the cache's own sliding window
            absent,  # token trees, paged
            absent,  # token trees, ragged
            absent,  # multi-head latent attention
            relax.Tuple([kernel("merge_state")]),
            kernel("split_rotary"),
            kernel("copy_single_page"),
            kernel("debug_get_kv"),
            kernel("compact_kv_copy"),
            ty_args=relax.AnyType(),
        ),
        _name="paged_kv_cache",
    )
