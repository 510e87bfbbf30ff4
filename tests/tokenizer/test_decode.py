"""Incremental decoding, against decoding at once and against the libraries' own decoders."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import sentencepiece
import tokenizers
from hypothesis import strategies as st

from mlc_llm.tokenizer import Tokenizer, load_tokenizer

SENTENCE_PIECE = {
    "llama-2.model": "tokenizers/llama-2",
    "tokenizers/mistral-7b-v0.1": "tokenizers/mistral-7b-v0.1",
    "models/stories260K": "models/stories260K",
    "models/babyllama-936K": "models/babyllama-936K",
}
HUGGING_FACE = [
    "tokenizers/llama-2",
    "tokenizers/mistral-7b-instruct-v0.3",
    "tokenizers/smollm2-135m-instruct",
]
REAL = [*SENTENCE_PIECE, *HUGGING_FACE]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
REPLACEMENT = "\ufffd"

Real = Callable[[str], Tokenizer]


@functools.cache
def _library(path: Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(path))


@functools.cache
def _sentencepiece(path: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def _ids(tokenizer: Tokenizer) -> st.SearchStrategy[list[int]]:
    """Random tokens, among them many of the first, which are the special and the byte tokens."""
    return st.lists(
        st.integers(0, tokenizer.vocab_size - 1) | st.integers(0, min(300, tokenizer.vocab_size)),
        max_size=30,
    )


def _deltas(tokenizer: Tokenizer, ids: list[int], *, continues: bool = False) -> list[str]:
    stream = tokenizer.stream(continues=continues)
    return [*(stream.push(token_id) for token_id in ids), stream.finish()]


def _encodable(name: str, text: str) -> str:
    """SmolLM2's vocabulary lacks some bytes, which leaves holes in rare characters."""
    if "smollm2" not in name:
        return text
    return "".join(c for c in text if c.isascii() and c.isprintable()) + "é🦙語"


def _lenient(text: str) -> str:
    """How many U+FFFD invalid bytes give differs between decoders, and means nothing."""
    return re.sub(f"{REPLACEMENT}+", REPLACEMENT, text)


@hypothesis.given(st.data())
@pytest.mark.parametrize("name", REAL)
def test_deltas_of_random_tokens_sum_up(name: str, real: Real, data: st.DataObject) -> None:
    tokenizer = real(name)
    ids = data.draw(_ids(tokenizer))
    continues = data.draw(st.booleans())
    deltas = _deltas(tokenizer, ids, continues=continues)
    assert "".join(deltas) == tokenizer.decode(ids, continues=continues)


@hypothesis.given(st.data())
@pytest.mark.parametrize("name", SENTENCE_PIECE)
def test_random_tokens_decode_as_sentencepiece_does(
    name: str, real: Real, test_data: Path, data: st.DataObject
) -> None:
    tokenizer = real(name)
    model = _sentencepiece(test_data / SENTENCE_PIECE[name] / "tokenizer.model")
    ids = [token_id for token_id in data.draw(_ids(tokenizer)) if token_id < tokenizer.vocab_size]
    # SentencePiece shows the unknown token as a symbol of its own, and a control token between two
    # bytes parts them; here neither has any text.
    apart = tokenizer.special_ids.values()
    expected = model.decode([token_id for token_id in ids if token_id not in apart])
    assert _lenient(tokenizer.decode(ids)) == _lenient(expected)


@hypothesis.given(st.data())
@pytest.mark.parametrize("name", HUGGING_FACE)
def test_random_tokens_decode_as_the_tokenizers_library_does(
    name: str, real: Real, test_data: Path, data: st.DataObject
) -> None:
    tokenizer = real(name)
    library = _library(test_data / name / "tokenizer.json")
    ids = data.draw(_ids(tokenizer))
    # The library itself does not know the special tokens of Llama-2's file ("normalized": true).
    plain = [token_id for token_id in ids if token_id not in tokenizer.special_ids.values()]
    decoded, expected = tokenizer.decode(ids), library.decode(plain)
    # One invalid byte makes the library give up the valid ones beside it, too.
    if REPLACEMENT not in decoded:
        assert decoded == expected
    else:
        assert REPLACEMENT in expected


@hypothesis.given(TEXT)
@pytest.mark.parametrize("name", [name for name in REAL if not name.startswith("models/")])
def test_text_survives(name: str, real: Real, text: str) -> None:
    tokenizer = real(name)
    text = _encodable(name, text)
    hypothesis.assume("▁" not in text)
    # These put no prefix before a leading space, and so take away the space itself.
    if name == "tokenizers/mistral-7b-instruct-v0.3":
        hypothesis.assume(not text.startswith(" "))
    deltas = _deltas(tokenizer, tokenizer.encode(text))
    assert "".join(deltas) == text


@hypothesis.given(TEXT)
@pytest.mark.parametrize("name", REAL)
def test_incomplete_characters_are_held_back(name: str, real: Real, text: str) -> None:
    text = _encodable(name, text)
    hypothesis.assume(REPLACEMENT not in text)
    tokenizer = real(name)
    deltas = _deltas(tokenizer, tokenizer.encode(text))
    assert not any(REPLACEMENT in delta for delta in deltas)


def test_an_emoji_of_byte_tokens_comes_whole(real: Real) -> None:
    for name in ("llama-2.model", "tokenizers/llama-2", "models/stories260K"):
        tokenizer = real(name)
        ids = [3 + byte for byte in "🦙".encode()]
        assert _deltas(tokenizer, ids) == ["", "", "", "🦙", ""]
        assert _deltas(tokenizer, ids[:3]) == ["", "", "", REPLACEMENT]


def test_leading_space(real: Real) -> None:
    for name in ("llama-2.model", "tokenizers/llama-2"):
        tokenizer = real(name)
        ids = [1, 15043, 3186]  # <s> ▁Hello ▁world
        assert _deltas(tokenizer, ids) == ["", "Hello", " world", ""]
        assert _deltas(tokenizer, ids, continues=True) == ["", " Hello", " world", ""]
        assert tokenizer.decode([29871, 15043]) == " Hello"  # ▁ ▁Hello


def test_ids_beyond_the_vocabulary_have_no_text(real: Real) -> None:
    for name in REAL:
        assert real(name).decode([10**6, -1]) == ""


def test_metaspace_decoder(write_tokenizer: Callable[..., Path]) -> None:
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}
    folder = write_tokenizer(["▁", "▁a", "b"], pre_tokenizer=metaspace, decoder=metaspace)
    tokenizer = load_tokenizer(folder)
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for ids in ([1, 2, 1], [0, 1, 2], [2, 0, 0, 1], [0, 0], []):
        assert tokenizer.decode(ids) == library.decode(ids)
        assert tokenizer.decode([2, *ids]) == "b" + tokenizer.decode(ids, continues=True)


class TestOtherDecoders:
    """Decoders that are not understood are run over a moving window of tokens."""

    @pytest.fixture
    def tokenizer(self, write_tokenizer: Callable[..., Path]) -> Tokenizer:
        decoder = {"type": "BPEDecoder", "suffix": "</w>"}
        tokens = ["<pad>", "lo</w>", "he", "l", "world</w>"]
        return load_tokenizer(write_tokenizer(tokens, specials=("<pad>",), decoder=decoder))

    def test_words(self, tokenizer: Tokenizer) -> None:
        assert _deltas(tokenizer, [2, 3, 1, 0, 4]) == ["he", "l", "lo", "", " world", ""]

    @hypothesis.given(ids=st.lists(st.integers(0, 4), max_size=60))
    @hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
    def test_deltas_are_never_taken_back(self, tokenizer: Tokenizer, ids: list[int]) -> None:
        assert "".join(_deltas(tokenizer, ids)) == tokenizer.decode(ids)

    def test_bytes(self, write_tokenizer: Callable[..., Path]) -> None:
        tokens = [f"<0x{byte:02X}>" for byte in range(256)]
        decoder = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, _STRIP, _FUSE]}
        tokenizer = load_tokenizer(write_tokenizer(tokens, decoder=decoder))
        assert _deltas(tokenizer, list("é🦙".encode())) == ["", "é", "", "", "", "🦙", ""]
        assert _deltas(tokenizer, list("🦙".encode())[:2])[-1] == REPLACEMENT * 2


_FUSE = {"type": "Fuse"}
_STRIP = {"type": "Strip", "content": "#", "start": 1, "stop": 0}


def test_decoding_takes_constant_time_per_token(real: Real) -> None:
    """The cost is counted, not timed: each token's bytes are looked up once."""
    tokenizer = real("tokenizers/llama-2")
    stream = tokenizer.stream()
    for token_id in tokenizer.encode("The quick brown fox. " * 200):
        stream.push(token_id)
    assert stream.finish() == ""
    assert not [value for value in vars(stream).values() if isinstance(value, str | list)]
