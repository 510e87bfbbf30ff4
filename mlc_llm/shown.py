"""A value of a user's as a message shows it: cut short, and never an error of its own."""

from __future__ import annotations

import reprlib
import sys
from typing import Any


class _Short(reprlib.Repr):
    """``reprlib`` with more room, for whole numbers of any size and for any object."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 200
        self.maxlong = 80
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = 12
        self.maxdict, self.maxlevel = 8, 4

    def repr_int(self, x: int, level: int) -> str:
        limit = sys.get_int_max_str_digits()
        digits = int(x.bit_length() * 0.30103) + 1
        if limit and digits >= limit:
            return f"<a whole number of about {digits} digits>"
        return super().repr_int(x, level)

    def repr1(self, x: Any, level: int) -> str:
        try:
            return super().repr1(x, level)
        except Exception:  # Whatever a type's own methods raise.
            return f"<{type(x).__name__}>"


_SHORT = _Short()


def shown(value: Any) -> str:
    """A value as ``repr`` writes it, but for what is long or deep, which is cut short.

    ``repr`` itself fails on whole numbers of thousands of digits, on values nested too deeply,
    and wherever a type's own ``__repr__`` does.

    Args:
        value: anything.
    """
    return _SHORT.repr(value)
