"""Which pages of the KV cache are in use, idle but kept, or free."""

from __future__ import annotations

from collections.abc import Callable

from mlc_llm.errors import GenerationError


class OutOfPages(GenerationError):
    """Every page of the KV cache is in use."""


def _nothing(_page: int) -> None:
    """Where no one needs to know what was forgotten."""


class PagePool:
    """Pages, which are numbers from 0 on.

    A page is free again when its last user released it, unless it is kept: then it is idle, can be
    shared again with what it holds, and is taken for something else only when no page is free. Of
    the idle ones that is the one which was released first.

    Args:
        count: number of pages.
        forgotten: called with an idle page that is taken for something else.

    Attributes:
        changes: grows with each page that is taken, shared or released.
    """

    def __init__(self, count: int, forgotten: Callable[[int], None] = _nothing) -> None:
        self.count = count
        self.changes = 0
        self._forgotten = forgotten
        self._users = [0] * count
        self._kept: set[int] = set()
        # A dictionary remembers in which order its keys came.
        self._idle: dict[int, None] = {}
        # The page that was released last is taken first: it may still be in a processor's cache.
        self._free = list(reversed(range(count)))

    @property
    def available(self) -> int:
        """Number of pages that can be taken."""
        return len(self._free) + len(self._idle)

    @property
    def idle(self) -> int:
        """How many of them hold what could be used again."""
        return len(self._idle)

    def users(self, page: int) -> int:
        """How many sequences use a page."""
        return self._users[page]

    def take(self) -> int:
        """A page, which has one user then.

        Raises:
            OutOfPages: all are in use.
        """
        if not self._free and self._idle:
            self.forget(next(iter(self._idle)))
        if not self._free:
            raise OutOfPages(f"All {self.count} pages of the KV cache are in use.")
        page = self._free.pop()
        self._users[page] = 1
        self.changes += 1
        return page

    def share(self, page: int) -> int:
        """Add a user to a page that is in use or idle; returns the page.

        Raises:
            ValueError: the page is free.
        """
        if page in self._idle:
            del self._idle[page]
        else:
            self._require_used(page)
        self._users[page] += 1
        self.changes += 1
        return page

    def release(self, page: int) -> None:
        """Remove a user of a page; without any left it is idle if it is kept, and free otherwise.

        Raises:
            ValueError: the page has no user.
        """
        self._require_used(page)
        self._users[page] -= 1
        self.changes += 1
        if self._users[page]:
            return
        if page in self._kept:
            self._idle[page] = None
        else:
            self._free.append(page)

    def keep(self, page: int) -> None:
        """Have a page that is in use be idle when it is released.

        Raises:
            ValueError: the page has no user.
        """
        self._require_used(page)
        self._kept.add(page)

    def forget(self, page: int) -> None:
        """Have a kept page not be kept any more; an idle one is free then."""
        self._kept.remove(page)
        if page in self._idle:
            del self._idle[page]
            self._free.append(page)
        self._forgotten(page)

    def _require_used(self, page: int) -> None:
        if not (0 <= page < self.count and self._users[page]):
            raise ValueError(f"page {page} is not in use")
