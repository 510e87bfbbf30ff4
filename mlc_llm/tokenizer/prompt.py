"""The tokens of a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PromptTokens:
    """The tokens that an answer goes on from.

    Args:
        ids: the token ids.
        generated: where tokens stand among them that the model generated in earlier answers.
    """

    ids: Sequence[int]
    generated: tuple[range, ...] = ()
