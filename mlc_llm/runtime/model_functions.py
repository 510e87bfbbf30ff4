"""The functions of a compiled model with its weights: token ids in, NumPy arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mlc_llm.errors import GenerationError
from mlc_llm.runtime.compiled_library import CompiledLibrary
from mlc_llm.runtime.kv_cache import KVCache
from mlc_llm.runtime.placement import on_host
from mlc_llm.runtime.token_input import TokenInput
from mlc_llm.runtime.window import Window

if TYPE_CHECKING:
    import tvm

_PASSES = ("prefill", "decode")
_CREATE_CACHE = "create_tir_paged_kv_cache"


def check_functions(library: CompiledLibrary) -> None:
    """Check that a library has what :class:`ModelFunctions` calls.

    Raises:
        LibraryError: it lacks a function.
    """
    for name in ("embed", *_PASSES, _CREATE_CACHE):
        library.function(name)


class ModelFunctions:
    """What a library computes; it remembers nothing of a conversation.

    Args:
        library: the opened library.
        parameters: the weights, in the order that its functions take. The library holds on to them.
        device: where they are.
        vocab_size: how many tokens have logits.

    Raises:
        LibraryError: the library lacks a function.
    """

    def __init__(
        self,
        library: CompiledLibrary,
        parameters: Any,
        device: tvm.runtime.Device,
        vocab_size: int,
    ) -> None:
        from tvm import get_global_func

        self._embed = library.bound("embed", parameters)
        self._passes = {name: library.bound(name, *parameters) for name in _PASSES}
        self._create_cache = library.function(_CREATE_CACHE)
        self._page_size = library.metadata.kv_cache.page_size
        self._vocab_size = vocab_size
        self._input = TokenInput(device)
        self._reshape = get_global_func("vm.builtin.reshape")
        self._on_host = on_host(device)

    def create_cache(self, window: Window) -> KVCache:
        """Make an empty KV cache."""
        return KVCache(self._create_cache, window, self._page_size)

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """The embeddings of tokens: float32 of shape (len(ids), hidden size)."""
        try:
            return self._embed(self._input.tensor(ids)).numpy().astype(np.float32)
        except Exception as error:
            raise _failed("embed", error) from error

    def forward(self, name: str, ids: Sequence[int], cache: KVCache) -> np.ndarray:
        """Append ``ids`` to the cache; returns the logits after them: float32 of (vocab_size,).

        Args:
            name: ``prefill``, or ``decode`` for a single token.
            ids: the tokens.
            cache: what holds the tokens before them.

        Raises:
            GenerationError: the function failed; the cache must be cleared.
        """
        try:
            embeddings = self._embed(self._input.tensor(ids))
            embeddings = self._reshape(embeddings, _batch_of_one(*embeddings.shape))
            logits, _ = self._passes[name](embeddings, cache.begin(len(ids)))
            cache.end()
            return self._host_view(logits)
        except Exception as error:
            raise _failed(name, error) from error

    def _host_view(self, logits: Any) -> np.ndarray:
        """The last position's logits without the padding; not copied when they are on the host."""
        array = np.from_dlpack(logits) if self._on_host else logits.numpy()
        return array.reshape(-1)[: self._vocab_size]


@lru_cache(maxsize=64)
def _batch_of_one(tokens: int, hidden: int) -> Any:
    """The shape of one sequence's embeddings, as TVM's functions take it."""
    from tvm.runtime import ShapeTuple

    return ShapeTuple([1, tokens, hidden])


def _failed(name: str, error: Exception) -> GenerationError:
    """Our error for what TVM raised; it names the library's function."""
    return GenerationError(f"The model's function {name!r} failed: {error}")
