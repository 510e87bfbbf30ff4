"""TVM's paged KV cache for one sequence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlc_llm.runtime.window import Window

_SEQUENCE = 0


class KVCache:
    """The keys and values of one sequence of tokens.

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
        self._slide = builtin("attention_kv_cache_enable_sliding_window_for_seq")
        self._shape = ShapeTuple
        self._window = window
        sizes = (1, window.size, window.chunk, page_size, int(window.slides))
        self.state = create(*(ShapeTuple([size]) for size in sizes))
        self._fed = 0
        self._start()

    @property
    def slid(self) -> bool:
        """Whether tokens have left the window.

        From then on nothing can be popped: what would have to come back is gone, and TVM's
        ``PopN`` does not count the slots that a window which has slid leaves free in its first
        page, so that it would release a page that is still in use.
        """
        return self._window.slides and self._fed > self._window.size

    def clear(self) -> None:
        """Forget everything; also puts the cache right after a forward pass that failed."""
        self._clear(self.state)
        self._start()

    def pop(self, count: int) -> None:
        """Forget the last ``count`` tokens; must not be called when the window has slid."""
        if self.slid:
            raise ValueError("nothing can be popped off a window that has slid")
        self._pop(self.state, _SEQUENCE, count)
        self._fed -= count

    @contextmanager
    def forward(self, count: int) -> Iterator[Any]:
        """Announce that the pass inside the ``with`` block appends ``count`` tokens."""
        self._begin(self.state, self._shape([_SEQUENCE]), self._shape([count]))
        yield self.state
        self._end(self.state)
        self._fed += count

    def _start(self) -> None:
        self._add(self.state, _SEQUENCE)
        if self._window.slides:
            self._slide(self.state, _SEQUENCE, self._window.size, self._window.sink)
        self._fed = 0
