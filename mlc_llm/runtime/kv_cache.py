"""TVM's paged KV cache for one sequence."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from mlc_llm.runtime.window import Window

_SEQUENCE = 0


class KVCache:
    """The keys and values of one sequence of tokens.

    It keeps every token, those before a sliding window included, which the kernels do not look at.

    Args:
        create: the library's ``create_tir_paged_kv_cache``.
        window: the sizes to make it for.
        page_size: tokens of a page.
    """

    def __init__(self, create: Any, window: Window, page_size: int) -> None:
        import tvm
        from tvm.runtime import ShapeTuple

        def builtin(name: str) -> Any:
            return tvm.get_global_func(f"vm.builtin.{name}")

        self._clear = builtin("kv_state_clear")
        self._add = builtin("kv_state_add_sequence")
        self._pop = builtin("kv_state_popn")
        self._begin = builtin("kv_state_begin_forward")
        self._end = builtin("kv_state_end_forward")
        self._lengths = lru_cache(maxsize=64)(lambda count: ShapeTuple([count]))
        self._sequences = ShapeTuple([_SEQUENCE])
        # The last one: TVM's own sliding window is off, whatever the model.
        sizes = (1, window.size, window.chunk, page_size, 0)
        self.state = create(*(ShapeTuple([size]) for size in sizes))
        self._add(self.state, _SEQUENCE)

    def clear(self) -> None:
        """Forget everything; also puts the cache right after a forward pass that failed."""
        self._clear(self.state)
        self._add(self.state, _SEQUENCE)

    def pop(self, count: int) -> None:
        """Forget the last ``count`` tokens."""
        self._pop(self.state, _SEQUENCE, count)

    def begin(self, count: int) -> Any:
        """Announce that a pass appends ``count`` tokens; returns what the pass takes."""
        self._begin(self.state, self._sequences, self._lengths(count))
        return self.state

    def end(self) -> None:
        """Announce that the pass is over."""
        self._end(self.state)
