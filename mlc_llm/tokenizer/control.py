"""Which of a tokenizer's tokens control the model, whatever their own flags say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from mlc_llm.tokenizer.special import SpecialTokens

_WRITTEN_AS_CONTROL = re.compile(r"<\|[^|<>\s]+\|>|<\uff5c[^\uff5c<>]+\uff5c>")
"""``<|im_end|>``, and DeepSeek's form of it."""


def looks_like_control(text: str) -> bool:
    """Whether a token's text is written as only control tokens are."""
    return _WRITTEN_AS_CONTROL.fullmatch(text) is not None


def control_texts(
    special: SpecialTokens, vocabulary: Mapping[str, int], added: Iterable[str]
) -> set[str]:
    """The control tokens of a vocabulary, by their texts.

    A control token is what any of the files calls one; what an id names as the begin, the end or
    the padding, if it was added to the trained vocabulary (an ordinary piece has such an id only
    by mistake); and what was added and is written like one.

    Args:
        special: what the small files say.
        vocabulary: all tokens' ids by text.
        added: the texts of those that were added to the trained vocabulary.
    """
    added = {*added, *(token.text for token in special.added.values())}
    ids = {special.bos, special.eos, special.pad, *special.ends, *special.stale_ends}
    found = {token.text for token in special.added.values() if token.special}
    # One character cannot be written in another way.
    found.update(text for text in special.named if len(text) > 1 or text in added)
    found.update(added.intersection(special.maybe))
    found.update(text for text in added if vocabulary.get(text) in ids)
    found.update(filter(looks_like_control, added))
    return found.intersection(vocabulary)


def end_ids(
    special: SpecialTokens, ids: Mapping[str, int], control: Iterable[int], size: int
) -> frozenset[int]:
    """Every token that ends an answer.

    An id that another file overrides counts only where it is a control token's.

    Args:
        special: what the small files say.
        ids: all tokens' ids by text.
        control: the ids of the control tokens.
        size: one more than the largest id.
    """
    named = {ids.get(end) if isinstance(end, str) else end for end in special.ends}
    named |= set(special.stale_ends).intersection(control)
    return frozenset(end for end in named if end is not None and end < size)
