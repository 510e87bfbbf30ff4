"""Griffe extension: the roles of Sphinx in docstrings become the Markdown that mkdocstrings reads.

``:meth:`generate``` becomes `` `generate` ``, and ``text::`` before an indented block ``text:``.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|meth|func|mod|data|attr|exc):`~?(?:[\w.]*\.)?(\w+)`")
LONE_MARK = re.compile(r"^\s*::$\n?", re.MULTILINE)
LITERAL_BLOCK = re.compile(r"(?<=\S)::$", re.MULTILINE)


class Roles(griffe.Extension):
    """Rewrites the docstring of every object that is read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called when an object's docstring is there and nothing has parsed it."""
        if obj.docstring is not None:
            text = ROLE.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = LITERAL_BLOCK.sub(":", LONE_MARK.sub("", text))
