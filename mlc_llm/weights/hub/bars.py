"""The hub client's progress bars, which also tell how a download goes on, and can stop it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class DownloadStopped(BaseException):
    """Raised in the threads of a download that is not wanted any more."""


def bars(*, shown: bool, began: threading.Event, stopped: threading.Event) -> type[Any]:
    """A class of progress bars for ``huggingface_hub``.

    Args:
        shown: whether they are wanted; they are shown only where stderr is a terminal.
        began: set when the first one is made: the files are known, and now they are fetched.
        stopped: when it is set, what is fetched next is an error in the thread that fetches it.
    """
    from huggingface_hub.utils.tqdm import tqdm

    class Bars(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            if not (shown and sys.stderr.isatty()):
                kwargs["disable"] = True
            untyped: Any = super().__init__
            untyped(*args, **kwargs)
            began.set()

        def update(self, n: float | None = 1) -> bool | None:
            if stopped.is_set():
                raise DownloadStopped
            untyped: Any = super().update
            updated: bool | None = untyped(n)
            return updated

    return Bars


@contextmanager
def byte_bar(what: str, total: int, *, shown: bool) -> Iterator[Callable[[int], object]]:
    """Show how much of a file is fetched, in the way of the hub's client.

    Args:
        what: the file's name.
        total: bytes that it has.
        shown: whether it is wanted; it is shown only where stderr is a terminal.

    Yields:
        A function to call with the bytes fetched since its last call.
    """
    bar = bars(shown=shown, began=threading.Event(), stopped=threading.Event())
    with bar(desc=what, total=total, unit="B", unit_scale=True) as progress:
        yield progress.update
