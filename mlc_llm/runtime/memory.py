"""How much memory a model will need, and whether it can be had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlc_llm.errors import DeviceError
from mlc_llm.host_memory import available_memory
from mlc_llm.plugin import Adapter, AttentionSpec, ModelConfig
from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.runtime.device_memory import on_host
from mlc_llm.runtime.metadata import KVCacheGeometry
from mlc_llm.weights.folder import ModelFolder

if TYPE_CHECKING:
    import tvm

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a loaded model takes.

    Args:
        weights: the parameters, and the largest of them once more while it is repacked.
        kv_cache: keys and values of all tokens that there may be.
        workspace: activations of one prefill chunk.
        kv_bytes_per_token: what one more token of the window costs.
        kv_slack: bytes of the cache's pages beyond the window, at most.
    """

    weights: int
    kv_cache: int
    workspace: int
    kv_bytes_per_token: int
    kv_slack: int

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return self.weights + self.kv_cache + self.workspace

    def fitting_window(self, available: int) -> int:
        """The largest window in tokens, in steps of 64, that fits; 0 when none does."""
        left = available - self.weights - self.workspace - self.kv_slack
        return max(0, left // self.kv_bytes_per_token) // 64 * 64


def estimate(
    cache: KVCacheGeometry, window: ContextWindow, weight_bytes: int, workspace: int = 0
) -> MemoryEstimate:
    """Estimate what a model will take.

    Args:
        cache: the shape of the KV cache's pages.
        window: the sizes of the KV cache.
        weight_bytes: see :func:`weight_bytes`.
        workspace: see :func:`workspace_bytes`.
    """
    per_token = sum(layer.kv_width for layer in cache.own) * cache.item_size
    pages = -(-window.total // cache.page_size)
    return MemoryEstimate(
        weights=weight_bytes,
        kv_cache=pages * cache.page_size * per_token,
        workspace=workspace,
        kv_bytes_per_token=per_token,
        kv_slack=cache.page_size * per_token,
    )


def weight_bytes(folder: ModelFolder) -> int:
    """Bytes of a folder's weights, the largest of them twice, as while they are loaded."""
    largest = max((tensor.nbytes for tensor in folder.manifest.tensors.values()), default=0)
    return folder.total_bytes + largest


def workspace_bytes(model: ModelConfig, attention: Sequence[AttentionSpec], chunk: int) -> int:
    """An estimate of what a prefill needs beside weights and KV cache.

    A number counts as 4 bytes, also where it has 2, in float16. What that leaves over pays for the
    kernels' scratch memory, which is not counted: attention of single tokens on CUDA has 17 MB for
    the shape of Llama 3.1 8B, as much as 95 tokens of a chunk leave over.

    Args:
        model: the model's config.
        attention: how its layers attend.
        chunk: tokens of one prefill step.
    """
    ffn = getattr(model, "intermediate_size", 4 * model.hidden_size)
    heads = max(layer.qkv_width + layer.query_heads * layer.key_size for layer in attention)
    row = 4 * model.hidden_size + 3 * ffn + 3 * heads
    return row * _FLOAT_BYTES * chunk


def available_on(adapter: Adapter, device: tvm.runtime.Device | None = None) -> int | None:
    """Bytes that an adapter has left; all that it has, where only that is known.

    Args:
        adapter: what its device's plugin says of it.
        device: TVM's handle of it; without one, TVM is not asked.

    Returns:
        None where nothing is known.
    """
    if device is not None and on_host(device):
        return available_memory()
    left = None if device is None else device.available_global_memory
    limits: list[int | None] = [left or adapter.memory]
    if adapter.shares_memory:
        limits.append(available_memory())
    return min((limit for limit in limits if limit is not None), default=None)


def require(need: MemoryEstimate, available: int | None, window: ContextWindow) -> None:
    """Refuse what cannot fit.

    Args:
        need: the estimate.
        available: bytes that there are; None when that is not known, and nothing is refused.
        window: the sizes that the estimate is for.

    Raises:
        DeviceError: it does not fit; the message says what would.
    """
    if available is None or need.total <= available:
        return
    fitting = need.fitting_window(available)
    if fitting == 0:
        remedy = "No context window is small enough: take a smaller model or quantisation."
    else:
        remedy = _fits_with(window, fitting)
    raise DeviceError(
        f"The model needs about {readable(need.total)} of memory and {readable(available)} are "
        f"available: weights {readable(need.weights)}, KV cache {readable(need.kv_cache)} for "
        f"{window.total} tokens, workspace {readable(need.workspace)}. {remedy}",
        code="memory-too-small",
    )


def require_parameters(folder: ModelFolder, adapter: Adapter) -> None:
    """Refuse a model with a parameter that the adapter cannot hold in one tensor.

    Args:
        folder: the model folder.
        adapter: what the model is to run on.

    Raises:
        DeviceError: there is such a parameter; the message has both sizes.
    """
    limit = adapter.largest_tensor
    tensors = folder.manifest.tensors.values()
    largest = max(tensors, key=lambda tensor: tensor.nbytes, default=None)
    if limit is None or largest is None or largest.nbytes <= limit:
        return
    raise DeviceError(
        f"The model's parameter {largest.name} has {readable(largest.nbytes)}, and one tensor may "
        f"have {readable(limit)} on {adapter.name}. Take a model with smaller parameters, such as "
        "one with a 4-bit quantisation, or another device.",
        code="tensor-too-large",
    )


def require_kv_cache(cache: KVCacheGeometry, window: ContextWindow, adapter: Adapter) -> None:
    """Refuse a window whose keys and values of one layer the adapter cannot hold in one tensor.

    Args:
        cache: the shape of the KV cache's pages.
        window: the sizes of the KV cache.
        adapter: what the model is to run on.

    Raises:
        DeviceError: there is too much of them; the message has both sizes, and a window that fits.
    """
    limit = adapter.largest_tensor
    per_token = max(layer.kv_width for layer in cache.own) * cache.item_size
    size = -(-window.total // cache.page_size) * cache.page_size * per_token
    if limit is None or size <= limit:
        return
    fitting = limit // (per_token * cache.page_size) * cache.page_size // 64 * 64
    remedy = (
        _fits_with(window, fitting)
        if fitting
        else "No context window is small enough: take another device."
    )
    raise DeviceError(
        f"Keys and values of one layer need {readable(size)} for {window.total} tokens, "
        f"and one tensor may have {readable(limit)} on {adapter.name}. {remedy}",
        code="window-too-large",
    )


def _fits_with(window: ContextWindow, tokens: int) -> str:
    """What to do where fewer tokens would fit."""
    setting = (
        f"ChatConfig(context_window_size={tokens})"
        if window.tokens is None
        else f"EngineConfig(max_total_sequence_length={tokens})"
    )
    return f"It fits with {setting}."


def readable(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**27 else f"{size / 2**20:.1f} MiB"
