"""Which pages of the KV cache are free, and how many sequences use each of the others."""

from __future__ import annotations

from mlc_llm.errors import GenerationError


class OutOfPages(GenerationError):
    """Every page of the KV cache is in use."""


class PagePool:
    """Pages, which are numbers from 0 on; a page is free again when its last user released it.

    Args:
        count: number of pages.

    Attributes:
        changes: grows with each page that is taken, shared or released.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.changes = 0
        self._users = [0] * count
        # The page that was released last is taken first: it may still be in a cache.
        self._free = list(reversed(range(count)))

    @property
    def available(self) -> int:
        """Number of free pages."""
        return len(self._free)

    def users(self, page: int) -> int:
        """How many sequences use a page."""
        return self._users[page]

    def take(self) -> int:
        """A free page, which has one user then.

        Raises:
            OutOfPages: there is none.
        """
        if not self._free:
            raise OutOfPages(f"All {self.count} pages of the KV cache are in use.")
        page = self._free.pop()
        self._users[page] = 1
        self.changes += 1
        return page

    def share(self, page: int) -> int:
        """Add a user to a page that is in use; returns the page.

        Raises:
            ValueError: the page is free.
        """
        self._require_used(page)
        self._users[page] += 1
        self.changes += 1
        return page

    def release(self, page: int) -> None:
        """Remove a user of a page; the page is free when none is left.

        Raises:
            ValueError: the page is free already.
        """
        self._require_used(page)
        self._users[page] -= 1
        self.changes += 1
        if not self._users[page]:
            self._free.append(page)

    def _require_used(self, page: int) -> None:
        if not (0 <= page < self.count and self._users[page]):
            raise ValueError(f"page {page} is not in use")
