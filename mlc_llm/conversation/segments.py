"""Encoding a prompt that is made of a template's text, of messages and of generated tokens.

All text between special tokens is encoded as one run, wherever its parts come from, because
that is how the models' own tokenizers read a prompt. What differs between the parts is trust: the
text of a special token is a special token only where the template's own text holds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mlc_llm.tokenizer.base import Tokenizer
from mlc_llm.tokenizer.prompt import PromptTokens

_WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""Unicode's White_Space, which the ``tokenizers`` library strips; ``str.strip`` takes more."""


@dataclass(frozen=True)
class Literal:
    """Text of a template, in which special tokens are recognised."""

    text: str


@dataclass(frozen=True)
class Plain:
    """Text of a message, in which they are not."""

    text: str


@dataclass(frozen=True)
class Generated:
    """Tokens that a model generated, which stay as they are."""

    ids: tuple[int, ...]


Segment = Literal | Plain | Generated

_Part = str | int | tuple[int, ...]
"""A run of text, a special token, or generated tokens."""


class SegmentEncoder:
    """Encodes prompts; what the last prompt held already is not encoded again.

    Text after a special token of the template is encoded as at the start of a text where
    ``tokenizer.prefix_after_special`` says so. Text after generated tokens continues them.

    Some special tokens take the white space beside them, a message's too: Phi-3's ``<|user|>`` is
    followed by a line end in the template, and by the message's first word in the tokens. The
    models' own tokenizers, and MLC's, do the same.

    Args:
        tokenizer: the model's tokenizer.
        marks: further tokens that count as special: added ones that the template marks turns with.
    """

    def __init__(self, tokenizer: Tokenizer, marks: Iterable[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._marks = tuple(marks)
        self._ids = dict(tokenizer.special_ids) | {m: tokenizer.added_ids[m] for m in self._marks}
        texts = sorted(self._ids, key=len, reverse=True)
        self._specials = re.compile("|".join(map(re.escape, texts))) if texts else None
        self._cache: dict[tuple[str, bool], list[int]] = {}

    def encode(self, segments: Iterable[Segment], prefix: Sequence[int] = ()) -> PromptTokens:
        """The tokens of a prompt.

        Args:
            segments: the prompt's parts.
            prefix: token ids that begin it, such as BOS. When the first segment begins with the
                last of them once more, it stands there only once.
        """
        ids = list(prefix)
        generated: list[range] = []
        cache: dict[tuple[str, bool], list[int]] = {}
        fresh, first = True, True
        for part in self._stripped(list(self._parts(segments))):
            if isinstance(part, str):
                key = (part, not fresh)
                if key not in cache:
                    known = self._cache.get(key)
                    cache[key] = known if known is not None else self._encode(*key)
                ids += cache[key]
                fresh = False
            elif isinstance(part, int):
                if not (first and ids and ids[-1] == part):
                    ids.append(part)
                    fresh = self._tokenizer.prefix_after_special
            else:
                generated.append(range(len(ids), len(ids) + len(part)))
                ids += part
                fresh = False
            first = False
        self._cache = cache
        return PromptTokens(ids, tuple(generated))

    def _encode(self, text: str, continues: bool) -> list[int]:
        return self._tokenizer.encode(text, continues=continues, without=self._marks)

    def _stripped(self, parts: list[_Part]) -> Iterator[_Part]:
        """The parts, without the white space that special tokens take."""
        strips = self._tokenizer.strips
        for index, part in enumerate(parts):
            if isinstance(part, str) and strips:
                before = parts[index - 1] if index else None
                after = parts[index + 1] if index + 1 < len(parts) else None
                if isinstance(before, int) and strips.get(before, (False, False))[1]:
                    part = part.lstrip(_WHITE_SPACE)
                if isinstance(after, int) and strips.get(after, (False, False))[0]:
                    part = part.rstrip(_WHITE_SPACE)
                if not part:
                    continue
            yield part

    def _parts(self, segments: Iterable[Segment]) -> Iterator[_Part]:
        """Runs of text, special tokens, and generated tokens, in turn."""
        run: list[str] = []
        for segment in segments:
            pieces: Iterable[_Part]
            if isinstance(segment, Generated):
                pieces = [segment.ids] if segment.ids else []
            elif isinstance(segment, Literal):
                pieces = self._split(segment.text)
            else:
                pieces = [segment.text]
            for piece in pieces:
                if isinstance(piece, str):
                    run.append(piece)
                    continue
                if text := "".join(run):
                    yield text
                run.clear()
                yield piece
        if text := "".join(run):
            yield text

    def _split(self, literal: str) -> Iterator[str | int]:
        """A template's text, its special tokens taken out."""
        start = 0
        for match in self._specials.finditer(literal) if self._specials else ():
            yield literal[start : match.start()]
            yield self._ids[match[0]]
            start = match.end()
        yield literal[start:]
