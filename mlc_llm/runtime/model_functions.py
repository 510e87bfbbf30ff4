"""The functions of a compiled model with its weights: token ids in, NumPy arrays out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

_NAMES = ("embed", "prefill", "decode", "create_tir_paged_kv_cache")


class ModelFunctions:
    """What a library computes; it remembers nothing of a conversation.

    Args:
        library: the opened library.
        parameters: the weights, in the order that its functions take.
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

        self._functions = {name: library.function(name) for name in _NAMES}
        self._page_size = library.metadata.kv_cache.page_size
        self._parameters = parameters
        self._vocab_size = vocab_size
        self._input = TokenInput(device)
        self._reshape = get_global_func("vm.builtin.reshape")
        self._on_host = on_host(device)

    def create_cache(self, window: Window) -> KVCache:
        """Make an empty KV cache."""
        return KVCache(self._functions["create_tir_paged_kv_cache"], window, self._page_size)

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """The embeddings of tokens: float32 of shape (len(ids), hidden size)."""
        with _explained("embed"):
            return self._embed(ids).numpy().astype(np.float32)

    def forward(self, name: str, ids: Sequence[int], cache: KVCache) -> np.ndarray:
        """Append ``ids`` to the cache; returns the logits after them: float32 of (vocab_size,).

        Args:
            name: ``prefill``, or ``decode`` for a single token.
            ids: the tokens.
            cache: what holds the tokens before them.

        Raises:
            GenerationError: the function failed; the cache must be cleared.
        """
        with _explained(name):
            embeddings = self._embed(ids)
            embeddings = self._reshape(embeddings, _batch_of_one(*embeddings.shape))
            with cache.forward(len(ids)) as state:
                logits, _ = self._functions[name](embeddings, state, self._parameters)
            return self._host_view(logits)

    def _embed(self, ids: Sequence[int]) -> Any:
        return self._functions["embed"](self._input.tensor(ids), self._parameters)

    def _host_view(self, logits: Any) -> np.ndarray:
        """The last position's logits without the padding; not copied when they are on the host."""
        array = np.from_dlpack(logits) if self._on_host else logits.numpy()
        return array.reshape(-1)[: self._vocab_size]


@lru_cache(maxsize=64)
def _batch_of_one(tokens: int, hidden: int) -> Any:
    """The shape of one sequence's embeddings, as TVM's functions take it."""
    from tvm.runtime import ShapeTuple

    return ShapeTuple([1, tokens, hidden])


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what TVM raises into our error, which names the library's function."""
    try:
        yield
    except Exception as error:
        raise GenerationError(f"The model's function {name!r} failed: {error}") from error
