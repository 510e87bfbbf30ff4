"""Griffe extension: fits what the source says to what mkdocstrings shows.

The roles of Sphinx become Markdown: ``:meth:`generate``` becomes `` `generate` ``, and ``text::``
before an indented block ``text:``. The configuration objects take their fields as arguments.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|meth|func|mod|data|attr|exc):`~?(?:[\w.]*\.)?(\w+)`")
KEYWORD_ONLY = griffe.ParameterKind.keyword_only
LONE_MARK = re.compile(r"^\s*::$\n?", re.MULTILINE)
LITERAL_BLOCK = re.compile(r"(?<=\S)::$", re.MULTILINE)


class Presentation(griffe.Extension):
    """Rewrites docstrings, and gives the configuration objects their fields as arguments."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called when an object's docstring is there and nothing has parsed it."""
        if obj.docstring is not None:
            text = ROLE.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = LITERAL_BLOCK.sub(":", LONE_MARK.sub("", text))

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Called when a class and its members are there."""
        if "Overlay" not in map(str, cls.bases):
            return
        fields = [
            griffe.Parameter(
                name, annotation=member.annotation, kind=KEYWORD_ONLY, default=str(member.value)
            )
            for name, member in cls.members.items()
            if isinstance(member, griffe.Attribute) and name != "older_spellings"
        ]
        signature = griffe.Function("__init__", parameters=griffe.Parameters(*fields), parent=cls)
        cls.set_member("__init__", signature)
        for field in fields:
            del cls.members[field.name]
