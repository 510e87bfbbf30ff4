"""Which tokens are allowed, against a search through all texts that a small grammar allows."""

from __future__ import annotations

import codecs
import re
from functools import cache

import numpy as np
import pytest

from mlc_llm.errors import TokenizerError
from mlc_llm.grammar import GrammarCompiler, ResponseFormat
from mlc_llm.grammar.vocabulary import Vocabulary
from mlc_llm.runtime.constraint import token_ids
from mlc_llm.testing import raises
from mlc_llm.testing.template import CharacterTokenizer
from mlc_llm.tokenizer import Tokenizer

from .conftest import Compile
from .random_model import RandomModel

LANGUAGES = [
    ["true", "false", "null", "trues"],
    [" a", " ab", "abc", "  ab!", "!!"],
    ["é", "ê", "世界", "世"],
    ["\n", "\n\n", "\t\n  {", "x\r\n"],
    ["<s>", "</s>", "<0x41>", "A", "<|im_end|>"],
    ["The quick brown fox", "The quicker"],
]


@cache
def ids_by_bytes(tokenizer: Tokenizer, first: bool) -> dict[bytes, list[int]]:
    """The tokens that stand for some bytes, by these.

    Where text begins, a token with a leading space counts only if there is one without it, too.
    """
    others = {} if not first else ids_by_bytes(tokenizer, False)
    ids: dict[bytes, list[int]] = {}
    for token in range(tokenizer.vocab_size):
        piece = tokenizer.token_bytes(token, first=first)
        if piece and (not first or piece in others):
            ids.setdefault(piece, []).append(token)
    return ids


@pytest.mark.parametrize("continues", [False, True])
@pytest.mark.parametrize("texts", LANGUAGES, ids=lambda texts: texts[0].strip() or "blank")
def test_exactly_the_tokens_that_some_text_goes_on_with(
    tokenizer: Tokenizer, model: RandomModel, grammar: Compile, texts: list[str], continues: bool
) -> None:
    compiled = grammar({"type": "regex", "regex": "|".join(map(re.escape, texts))})
    random = np.random.default_rng(len(texts[0]))
    wanted = [text.encode() for text in texts]
    for _ in range(12):
        constraint, sofar, tokens = compiled.start((), continues=continues), b"", list[int]()
        while not constraint.must_end:
            first = not tokens and not continues
            ids = ids_by_bytes(tokenizer, first)
            ahead = [text[len(sofar) :] for text in wanted if text.startswith(sofar)]
            beginnings = {text[: end + 1] for text in ahead for end in range(len(text))}
            if forced := constraint.forced():
                # Where there is one text only, it is written as the tokenizer writes it.
                piece = tokenizer.token_bytes(forced[0], first=first)
                assert piece in beginnings
                beginnings = {piece}
            expected = sorted(token for piece in beginnings for token in ids.get(piece, []))
            assert constraint.may_end == (sofar in wanted)
            assert token_ids(constraint.allowed(), model.vocab_size).tolist() == expected
            if not expected:
                break
            tokens.append(int(random.choice(expected)))
            sofar += tokenizer.token_bytes(tokens[-1], first=first) or b""
            constraint.accept(tokens[-1])
        assert sofar in wanted
        assert constraint.must_end
        assert tokenizer.decode(tokens, continues=continues).encode() == sofar


@pytest.mark.parametrize("continues", [False, True])
def test_the_bytes_of_tokens_are_the_text_that_they_decode_to(
    tokenizer: Tokenizer, continues: bool
) -> None:
    random = np.random.default_rng(1)
    for _ in range(200):
        tokens = random.integers(tokenizer.vocab_size, size=5).tolist()
        tokens = [token for token in tokens if tokenizer.token_bytes(token)]
        if not tokens or not tokenizer.token_bytes(tokens[0], first=not continues):
            continue
        first, *others = tokens
        text = (tokenizer.token_bytes(first, first=not continues) or b"") + b"".join(
            tokenizer.token_bytes(token) or b"" for token in others
        )
        assert tokenizer.decode(tokens, continues=continues) == text.decode(errors="replace")


def test_special_tokens_have_no_bytes(tokenizer: Tokenizer) -> None:
    assert tokenizer.special_ids
    for token in [*tokenizer.special_ids.values(), tokenizer.vocab_size, -1]:
        assert tokenizer.token_bytes(token) is None
        assert tokenizer.token_bytes(token, first=True) is None


@pytest.mark.parametrize("size", [300, 319, 320, 321, 352])
def test_a_model_with_fewer_rows_than_the_tokenizer_has_tokens(
    tokenizer: Tokenizer, size: int
) -> None:
    anything = ResponseFormat.parse({"type": "regex", "regex": "(?s:.)*"})
    assert anything is not None
    words = GrammarCompiler(tokenizer, size).compile(anything).start((), continues=True).allowed()
    assert words.shape == (-(-size // 32),)
    pieces = [tokenizer.token_bytes(token) for token in range(size)]
    expected = [token for token, piece in enumerate(pieces) if piece and begins_text(piece)]
    assert token_ids(words, 32 * len(words)).tolist() == expected


def begins_text(piece: bytes) -> bool:
    """Whether some text in UTF-8 begins with these bytes."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(piece)
    except UnicodeDecodeError:
        return False
    return True


def test_a_tokenizer_whose_tokens_have_no_bytes() -> None:
    with raises("tokenizer-without-bytes", error=TokenizerError):
        Vocabulary(CharacterTokenizer(), 10)
