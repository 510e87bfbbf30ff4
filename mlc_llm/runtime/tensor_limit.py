"""Adapters that cannot hold tensors of any size: what is too large is refused before the load."""

from __future__ import annotations

from mlc_llm.errors import DeviceError
from mlc_llm.plugin import Adapter
from mlc_llm.runtime.memory import readable
from mlc_llm.runtime.metadata import LibraryMetadata
from mlc_llm.runtime.window import Window
from mlc_llm.weights.folder import ModelFolder


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
        "one with a 4-bit quantisation, or another device."
    )


def require_kv_cache(metadata: LibraryMetadata, window: Window, adapter: Adapter) -> None:
    """Refuse a window whose keys and values of one layer the adapter cannot hold in one tensor.

    Args:
        metadata: what the library says of itself.
        window: the sizes of the KV cache.
        adapter: what the model is to run on.

    Raises:
        DeviceError: there is too much of them; the message has both sizes, and a window that fits.
    """
    cache, limit = metadata.kv_cache, adapter.largest_tensor
    per_token = max(layer.kv_width for layer in cache.own) * cache.item_size
    size = -(-window.size // cache.page_size) * cache.page_size * per_token
    if limit is None or size <= limit:
        return
    fitting = limit // (per_token * cache.page_size) * cache.page_size // 64 * 64
    remedy = (
        f"It fits with ChatConfig(context_window_size={fitting})."
        if fitting
        else "No context window is small enough: take another device."
    )
    raise DeviceError(
        f"Keys and values of one layer need {readable(size)} for a window of {window.size} tokens, "
        f"and one tensor may have {readable(limit)} on {adapter.name}. {remedy}"
    )
