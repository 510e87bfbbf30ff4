"""The tokenizers of published families, against the libraries that run the originals."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest
import sentencepiece
import tokenizers
from hypothesis import strategies as st

from mlc_llm.tokenizer import Tokenizer, load_tokenizer

pytestmark = pytest.mark.slow

NAMES = ["llama3", "llama3_1", "gemma3", "qwen3", "gptoss", "deepseek_v3", "mistral_v7"]

TEXTS = [
    "The quick brown fox, don't you know? It'LL cost $1,234.50 (50% off)!",
    "Straße, naïve, İstanbul, Łódź; ¿qué? Здравствуйте. Καλημέρα. Բարեւ. გამარჯობა.",
    "漢字とかなとカナ。한국어 문장. 中文，標點。 ไทยไม่เว้นวรรค. नमस्ते दुनिया १२३.",
    "שלום עולם. مرحبا بالعالم ٤٥٦. \u200fمن اليمين\u200e left.",
    "👍🏽 👩‍👩‍👧‍👦 🇩🇪🇯🇵 🏴\u200d☠️ e\u0301 A\u030a ²½Ⅻ 𝐀𝐁 \U0001f9ff\ufe0f",
    "def f(x: int) -> str:\n    return f'{x:>8}'  # ok\n\n\n\tif a != b && c <= d { x[i]++; }\r\n",
    '{"a": [1, 2.5e-3, null], "b\\n": "\\u00e9"}\n<b class="x">&amp;</b>\n`` `',
    "   three before\n\n  two  between \t tabs\t\t\n \n end   ",
    "\n", "\n\n\n", " ", "    ", "\t", "\r\n", "\u00a0\u3000\u2003", "a" * 300, "🦙" * 40,
    "https://example.org/a-b_c?d=e&f=%20#g 192.168.0.1 0xDEADBEEF 1234567890123",
    "\x00\x01\x7f\x1b[0m\ufeff\ufffd\ue000\U000e0001",
]  # fmt: skip

CHARACTER = st.characters(exclude_categories=["Cs"])
WORDS = st.sampled_from(" ".join(TEXTS[:6]).split(" "))
SPACES = st.sampled_from([" ", "  ", "\n", "\n\n", "\t", "\r\n", " \n", "\u00a0"])
TEXT = st.lists(WORDS | SPACES | st.text(CHARACTER, max_size=6), max_size=10).map("".join)


class Original(NamedTuple):
    """A tokenizer as we read it, and what its own library makes of text and of tokens."""

    ours: Tokenizer
    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]

    def pieces(self, ids: list[int]) -> list[str]:
        """What is shown after each token, and at the end."""
        stream = self.ours.stream()
        return [*map(stream.push, ids), stream.finish()]


@pytest.fixture(scope="module")
def original(original_tokenizer: Callable[[str], Path]) -> Callable[[str], Original]:
    @cache
    def load(name: str) -> Original:
        folder = original_tokenizer(name)
        if (model := folder / "tokenizer.model").is_file():
            pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
            return Original(load_tokenizer(folder), pieces.encode, pieces.decode)
        library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        library.encode_special_tokens = True  # as plain text has none
        return Original(
            load_tokenizer(folder),
            lambda text: library.encode(text, add_special_tokens=False).ids,
            library.decode,
        )

    return load


@pytest.mark.parametrize("name", NAMES)
def test_texts(name: str, original: Callable[[str], Original]) -> None:
    it = original(name)
    for text in TEXTS:
        ids = it.encode(text)
        assert it.ours.encode(text) == ids, text
        assert it.ours.decode(ids) == "".join(it.pieces(ids)) == it.decode(ids), text


@pytest.mark.parametrize("name", NAMES)
@hypothesis.settings(max_examples=40)
@hypothesis.given(text=TEXT)
def test_any_text(name: str, original: Callable[[str], Original], text: str) -> None:
    it = original(name)
    ids = it.encode(text)
    assert it.ours.encode(text) == ids
    assert "".join(it.pieces(ids)) == it.decode(ids)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_is_never_half_a_character(
    name: str, original: Callable[[str], Original]
) -> None:
    it = original(name)
    for text in TEXTS[:8]:
        shown = ""
        for piece in it.pieces(it.encode(text)):
            assert "\ufffd" not in piece
            shown += piece
        assert shown == it.decode(it.encode(text))


@pytest.mark.parametrize("name", NAMES)
@hypothesis.settings(max_examples=40)
@hypothesis.given(randomness=st.randoms(use_true_random=False))
def test_any_tokens(
    name: str, original: Callable[[str], Original], randomness: random.Random
) -> None:
    """Among them halves of characters, which the stream must hold back, or show as invalid."""
    it = original(name)
    special = it.ours.special_ids.values()
    drawn = (randomness.randrange(it.ours.vocab_size) for _ in range(30))
    ids = [token_id for token_id in drawn if token_id not in special]
    ids += it.encode("🦙é")[: randomness.randrange(9)]  # may end within a character
    found, expected = "".join(it.pieces(ids)), it.decode(ids)
    assert found == it.ours.decode(ids)
    if "\ufffd" in found:  # the library gives up valid bytes beside invalid ones, too
        assert "\ufffd" in expected
    else:
        assert found == expected


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens(name: str, original: Callable[[str], Original]) -> None:
    """They are tokens by their id, characters in a text, and nothing in an answer."""
    it = original(name)
    ids = it.ours.encode("Hello there")
    assert it.ours.special_ids
    for text, token_id in list(it.ours.special_ids.items())[:40]:
        assert token_id not in it.ours.encode(f"a {text} b")
        assert "".join(it.pieces([token_id, *ids, token_id])) == it.decode(ids)
