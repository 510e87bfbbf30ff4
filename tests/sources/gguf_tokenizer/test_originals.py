"""The tokenizer that is made from metadata, against the original that the metadata came from."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from mlc_llm.sources.gguf_tokenizer import tokenizer_files
from mlc_llm.tokenizer import Tokenizer, load_tokenizer

from . import as_gguf
from .conftest import write
from .metadata_file import read_metadata

MAKERS = {
    "smollm2-135m-instruct": lambda path: as_gguf.byte_level(path, "smollm"),
    "llama-2": as_gguf.scored,
    "mistral-7b-v0.1": as_gguf.scored,
    "mistral-7b-instruct-v0.3": lambda path: as_gguf.ranked(path, prefix=True),
    "llama3": lambda path: as_gguf.byte_level(path, "llama-bpe"),
    "llama3_1": lambda path: as_gguf.byte_level(path, "llama-bpe"),
    "qwen3": lambda path: as_gguf.byte_level(path, "qwen2", 151936),
    "gptoss": lambda path: as_gguf.byte_level(path, "gpt-4o", 201088),
    "deepseek_v3": lambda path: as_gguf.byte_level(path, "deepseek-v3", 129280),
    "gemma3": lambda path: as_gguf.ranked(path, prefix=False),
}
IN_DATA = list(MAKERS)[:4]
NAMES = [pytest.param(name, marks=[] if name in IN_DATA else pytest.mark.slow) for name in MAKERS]

WORDS = """
    I'll we'Ve they'RE it's don't HE'D 'S 'twas foo_bar camelCase HTTPServer C++ `x` 50% a/b $5
    http://a.b/c?d=e&f a@b.c #!/bin/sh {"key":[1,2]} <b>bold</b> 1234567 3.14159 1,000 0x1F
    \\n () ;) != <= -> => \u2026 \u2014 \u201cq\u201d ¿qué? naïve Straße \ufb01ne İstanbul
    \u017f'\u017f ΔΣΩ'δσω Здравствуйте שלום مرحبا १२३ ٤٥ 漢字 かな カナ 한국어 ไทย
    \u10d0\u0308\u10d1 e\u0301 A\u030a ² ½ Ⅻ \U0001d400\U0001d401
    \U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea
""".split()
SPACES = " |  |   |\n|\n\n|\r\n|\t|\t\t| \n|\n |\u00a0|\u3000|\u2003".split("|")
TEXT = st.lists(
    st.sampled_from(WORDS)
    | st.sampled_from(SPACES)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.text("aB1 \n.'", max_size=8),
    max_size=12,
).map("".join)

Pair = tuple[Tokenizer, Tokenizer]


@pytest.fixture(scope="session")
def pair(
    tokenizers: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Pair]:
    """The tokenizer that is made, and the original, by the original's name."""

    @cache
    def load(name: str) -> Pair:
        path = tokenizers(name)
        folder = write(tokenizer_files(MAKERS[name](path)), tmp_path_factory.mktemp(name))
        return load_tokenizer(folder), load_tokenizer(path)

    return load


@pytest.fixture(scope="session")
def tokenizers(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """The folder of an original, by its name."""

    def find(name: str) -> Path:
        if name in IN_DATA:
            return Path(request.getfixturevalue("test_data")) / "tokenizers" / name
        return Path(request.getfixturevalue("original_tokenizer")(name))

    return find


@hypothesis.given(TEXT, st.booleans())
@hypothesis.settings(max_examples=300)
@pytest.mark.parametrize("name", NAMES)
def test_text_is_encoded_as_by_the_original(
    name: str, pair: Callable[[str], Pair], text: str, continues: bool
) -> None:
    # Its tokenizer.json puts no space before a space; SentencePiece, and its tokenizer.model, do.
    hypothesis.assume(name != "mistral-7b-instruct-v0.3" or text[:1] not in " \u2581")
    made, original = pair(name)
    assert made.encode(text, continues=continues) == original.encode(text, continues=continues)


@hypothesis.given(st.randoms(use_true_random=False), st.booleans())
@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_decoded_as_by_the_original(
    name: str, pair: Callable[[str], Pair], randomness: random.Random, continues: bool
) -> None:
    made, original = pair(name)
    ids = {randomness.randrange(original.vocab_size + 10) for _ in range(30)}
    ids = list(ids.difference(_made_special(made, original)))
    assert made.decode(ids, continues=continues) == original.decode(ids, continues=continues)


def _made_special(made: Tokenizer, original: Tokenizer) -> set[int]:
    """The tokens that llama.cpp's converter makes special ones for their looks, as of Gemma."""
    added = set(made.special_ids.values()) - set(original.special_ids.values())
    texts = [text for text, token_id in made.special_ids.items() if token_id in added]
    assert all(text == "<mask>" or text.startswith("<unused") for text in texts)
    return added


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_are_those_of_the_original(name: str, pair: Callable[[str], Pair]) -> None:
    made, original = pair(name)
    more = _made_special(made, original)
    assert {
        text: i for text, i in made.special_ids.items() if i not in more
    } == original.special_ids
    assert not made.added_ids or made.added_ids == original.added_ids
    assert made.vocab_size == original.vocab_size
    assert made.end_ids >= original.end_ids


@pytest.mark.parametrize("name", NAMES)
def test_the_tokens_that_begin_and_end_are_those_of_the_original(
    name: str, pair: Callable[[str], Pair]
) -> None:
    made, original = pair(name)
    assert (made.bos_id, made.eos_id) == (original.bos_id, original.eos_id)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("llama3_1", {"<|end_of_text|>", "<|eot_id|>"}),
        ("qwen3", {"<|endoftext|>", "<|im_end|>"}),
        ("gptoss", {"<|endoftext|>", "<|return|>", "<|call|>"}),
        ("gemma3", {"<eos>", "<end_of_turn>"}),
    ],
)
def test_the_ends_are_those_of_the_models_generation_config(
    name: str, ends: set[str], pair: Callable[[str], Pair]
) -> None:
    made, _ = pair(name)
    assert {text for text, token_id in made.special_ids.items() if token_id in made.end_ids} == ends


def test_reference_vectors_of_llama_2(pair: Callable[[str], Pair], test_data: Path) -> None:
    made, _ = pair("llama-2")
    folder = test_data / "tokenizers" / "expected"
    assert check_vectors(made, folder / "llama-2.inp", folder / "llama-2.out") > 40


@hypothesis.given(TEXT)
@pytest.mark.parametrize("name", ["llama-2", "mistral-7b-v0.1"])
def test_scores_that_do_not_differ(
    name: str, pair: Callable[[str], Pair], unscored: Callable[[str], Tokenizer], text: str
) -> None:
    assert unscored(name).encode(text) == pair(name)[1].encode(text)


@pytest.fixture(scope="session")
def unscored(
    tokenizers: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Tokenizer]:
    """The tokenizer that is made of metadata whose scores say nothing."""

    @cache
    def load(name: str) -> Tokenizer:
        metadata = MAKERS[name](tokenizers(name))
        metadata["tokenizer.ggml.scores"] = [-1000.0] * len(metadata["tokenizer.ggml.scores"])
        return load_tokenizer(write(tokenizer_files(metadata), tmp_path_factory.mktemp(name)))

    return load


@pytest.mark.parametrize("name", ["mistral-7b-v0.1", "mistral-7b-instruct-v0.3"])
def test_the_space_after_a_special_token_is_the_originals(
    name: str, pair: Callable[[str], Pair]
) -> None:
    made, original = pair(name)
    assert made.prefix_after_special is original.prefix_after_special


@pytest.mark.slow
def test_smollm2s_own_file(
    original_tokenizer: Callable[[str], Path], test_data: Path, tmp_path: Path
) -> None:
    file = original_tokenizer("smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    metadata = read_metadata(file)
    made = load_tokenizer(write(tokenizer_files(metadata), tmp_path))
    original = load_tokenizer(test_data / "tokenizers" / "smollm2-135m-instruct")
    assert (made.bos_id, made.eos_id) == (original.bos_id, original.eos_id) == (1, 2)
    assert made.special_ids == original.special_ids
    for text in ("".join(WORDS), " ".join(WORDS), "\n".join(WORDS)):
        assert made.encode(text) == original.encode(text)
        assert made.decode(made.encode(text)) == text


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    """command-r deepseek-coder deepseek-llm falcon gpt-2 llama-bpe llama-spm mpt phi-3 qwen2 qwen35
    refact starcoder""".split(),
)
def test_llama_cpps_vocabularies_and_vectors(
    name: str, original_tokenizer: Callable[[str], Path], tmp_path: Path
) -> None:
    path = original_tokenizer("llama.cpp") / f"ggml-vocab-{name}.gguf"
    made = load_tokenizer(write(tokenizer_files(read_metadata(path, "tokenizer.")), tmp_path))
    vectors = (path.with_name(f"{path.name}{ending}") for ending in (".inp", ".out"))
    # llama.cpp does not compose text, as Qwen's tokenizer does, and wrote some vectors itself.
    assert check_vectors(made, *vectors, composed=name == "qwen35") > 40


def check_vectors(tokenizer: Tokenizer, inputs: Path, outputs: Path, composed: bool = False) -> int:
    """Check ids against a file in the format of llama.cpp's tests; returns how many there are."""
    # Exact bytes: the texts hold line ends of several kinds.
    texts = inputs.read_bytes().decode().split("\n__ggml_vocab_test__\n")
    checked = 0
    for text, line in zip(texts, outputs.read_text().splitlines(), strict=False):
        if not composed or unicodedata.is_normalized("NFC", text):
            assert tokenizer.encode(text) == [int(token) for token in line.split()], repr(text)
            checked += 1
    return checked
