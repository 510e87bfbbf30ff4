"""Encoding, against the reference vectors and against the libraries themselves."""

from __future__ import annotations

import base64
import functools
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import sentencepiece
import tokenizers
from hypothesis import strategies as st

from mlc_llm.errors import TokenizerError
from mlc_llm.testing import raises
from mlc_llm.tokenizer import Tokenizer, beyond_vocabulary, load_tokenizer

REAL = [
    "tokenizers/llama-2",
    "llama-2.model",
    "tokenizers/mistral-7b-v0.1",
    "tokenizers/mistral-7b-instruct-v0.3",
    "tokenizers/smollm2-135m-instruct",
    "models/stories260K",
    "models/babyllama-936K",
]
WITH_TOKENIZER_JSON = [REAL[0], REAL[3], REAL[4]]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)

Real = Callable[[str], Tokenizer]


@pytest.mark.parametrize("name", ["tokenizers/llama-2", "llama-2.model"])
def test_reference_vectors_of_llama_2(name: str, real: Real, tokenizers_folder: Path) -> None:
    folder = tokenizers_folder / "expected"
    # Exact bytes: the texts hold line ends of several kinds.
    inputs = (folder / "llama-2.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    outputs = (folder / "llama-2.out").read_text().splitlines()
    checked = 0
    for text, line in zip(inputs, outputs, strict=False):
        assert real(name).encode(text) == [int(token) for token in line.split()], repr(text)
        checked += 1
    assert checked > 40


@hypothesis.given(TEXT)
@hypothesis.settings(max_examples=200)
def test_tokenizer_json_and_model_agree(real: Real, text: str) -> None:
    json_one, model_one = real("tokenizers/llama-2"), real("llama-2.model")
    assert json_one.encode(text) == model_one.encode(text)
    assert json_one.encode(text, continues=True) == model_one.encode(text, continues=True)


@hypothesis.given(st.data())
@pytest.mark.parametrize("name", REAL)
def test_special_tokens_never_come_from_text(name: str, real: Real, data: st.DataObject) -> None:
    tokenizer = real(name)
    special = sorted(tokenizer.special_ids)
    text = data.draw(st.lists(st.sampled_from(special) | TEXT, max_size=5).map("".join))
    continues = data.draw(st.booleans())
    control = set(tokenizer.special_ids.values()) - {tokenizer.unk_id}
    assert control.isdisjoint(tokenizer.encode(text, continues=continues))


@hypothesis.given(TEXT)
@pytest.mark.parametrize("name", WITH_TOKENIZER_JSON)
def test_plain_text_is_encoded_as_the_library_does(
    name: str, real: Real, test_data: Path, text: str
) -> None:
    hypothesis.assume("<" not in text and "[" not in text)
    reference = _library(test_data / name / "tokenizer.json")
    assert real(name).encode(text) == reference.encode(text, add_special_tokens=False).ids


@functools.cache
def _library(path: Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(path))


@hypothesis.given(TEXT)
@pytest.mark.parametrize("name", REAL[:4])
def test_continuing_adds_no_space_and_takes_none_away(name: str, real: Real, text: str) -> None:
    hypothesis.assume("\N{LOWER ONE EIGHTH BLOCK}" not in text)  # To these tokenizers, a space.
    tokenizer = real(name)
    ids = tokenizer.encode(text, continues=True)
    assert tokenizer.decode(ids, continues=True) == text


@pytest.mark.parametrize("name", REAL)
def test_continuing_gives_the_tokens_inside_a_longer_text(name: str, real: Real) -> None:
    tokenizer = real(name)
    whole = tokenizer.encode("the cat\nand a  dog")
    parts = tokenizer.encode("the cat") + tokenizer.encode("\nand a  dog", continues=True)
    assert whole == parts


def test_bos_and_eos_are_known_and_never_added(real: Real) -> None:
    for name in REAL:
        tokenizer = real(name)
        assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 2)
        assert tokenizer.encode("") == []
        assert not {1, 2} & set(tokenizer.encode("Hello"))


def test_special_ids_name_the_control_tokens(real: Real) -> None:
    assert real("llama-2.model").special_ids == {"<unk>": 0, "<s>": 1, "</s>": 2}
    assert real("tokenizers/llama-2").special_ids == {"<unk>": 0, "<s>": 1, "</s>": 2}
    assert real("tokenizers/mistral-7b-instruct-v0.3").special_ids["[/INST]"] == 4
    assert real("tokenizers/smollm2-135m-instruct").special_ids["<|im_end|>"] == 2


@pytest.mark.parametrize("name", ["tokenizers/llama-2", "llama-2.model"])
def test_a_lone_surrogate_is_an_error_that_says_where(name: str, real: Real) -> None:
    with raises("text-invalid", "U+D83D", 2, error=TokenizerError):
        real(name).encode("ab\ud83d")


def test_what_is_no_text_is_an_error(real: Real) -> None:
    with raises("text-invalid", "None", error=TokenizerError):
        real("llama-2.model").encode(None)  # type: ignore[arg-type]


def test_tokens_beyond_a_models_vocabulary(write_tokenizer: Callable[..., Path]) -> None:
    tokens = ["<unk>", "a", "b", "<image>"]
    tokenizer = load_tokenizer(write_tokenizer(tokens, specials=("<unk>", "<image>")))
    assert beyond_vocabulary(tokenizer, 4) is beyond_vocabulary(tokenizer, 5) is None
    told = beyond_vocabulary(tokenizer, 2)
    assert told is not None
    assert "4 tokens" in told
    assert told.endswith(
        "vocabulary 2. The model can neither read nor write the last 2: 2, 3 ('<image>')"
    )


def test_only_some_of_many_tokens_are_listed(real: Real) -> None:
    told = beyond_vocabulary(real("models/stories260K"), 500)
    assert told is not None
    assert told.endswith("the last 12: 500, 501, 502, 503, 504, ...")


def test_a_file_that_asks_for_truncation_and_padding_is_not_heeded(
    write_tokenizer: Callable[..., Path],
) -> None:
    truncation = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    padding = {
        "strategy": {"Fixed": 8},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "a",
    }
    folder = write_tokenizer(["a", "b"], truncation=truncation, padding=padding)
    assert load_tokenizer(folder).encode("abab") == [0, 1, 0, 1]


@pytest.mark.parametrize(
    "pre_tokenizer",
    [
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": False},
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
        {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True},
    ],
)
def test_metaspace_in_each_of_its_spellings(
    pre_tokenizer: dict[str, Any], write_tokenizer: Callable[..., Path]
) -> None:
    for given in (pre_tokenizer, {"type": "Sequence", "pretokenizers": [pre_tokenizer]}):
        folder = write_tokenizer(["▁", "a", "b"], pre_tokenizer=given)
        tokenizer = load_tokenizer(folder)
        assert tokenizer.encode("a b") == [0, 1, 0, 2]
        assert tokenizer.encode("a b", continues=True) == [1, 0, 2]
        every = pre_tokenizer.get("prepend_scheme", "always") == "always"
        assert tokenizer.prefix_after_special is every


def test_byte_level_with_a_prefix_space(write_tokenizer: Callable[..., Path]) -> None:
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": True,
        "use_regex": True,
    }
    folder = write_tokenizer(["Ġ", "a", "b"], pre_tokenizer=byte_level, decoder=byte_level)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode("a b") == [0, 1, 0, 2]
    assert tokenizer.encode("a b", continues=True) == [1, 0, 2]
    assert tokenizer.decode([0, 1, 0, 2]) == " a b"


def test_a_unigram_model_does_not_find_control_tokens_in_text(
    write_tokenizer: Callable[..., Path],
) -> None:
    pieces = ["<unk>", "</s>", "<", "/", "s", ">", "a"]
    model = {
        "type": "Unigram",
        "unk_id": 0,
        "vocab": [[piece, 0.0 if len(piece) > 1 else -9.0] for piece in pieces],
        "byte_fallback": False,
    }
    folder = write_tokenizer(pieces, specials=("<unk>", "</s>"), model=model)
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    library.encode_special_tokens = True
    assert library.encode("</s>").ids == [1]  # What this guards against.
    assert load_tokenizer(folder).encode("a</s>a") == [6, 2, 3, 4, 5, 6]


def test_sentencepiece_with_added_tokens(
    llama_2_model_folder: Path, tmp_path: Path, real: Real
) -> None:
    (tmp_path / "tokenizer.model").write_bytes(
        (llama_2_model_folder / "tokenizer.model").read_bytes()
    )
    (tmp_path / "added_tokens.json").write_text('{"<|im_end|>": 32000, "<think>": 32002}')
    config = {
        "eos_token": {"content": "<|im_end|>"},
        "added_tokens_decoder": {
            "1": {"content": "<s>", "special": True},
            "32002": {"content": "<think>", "special": False},
        },
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.vocab_size == 32003
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 32000)
    assert tokenizer.special_ids == {"<unk>": 0, "<s>": 1, "</s>": 2, "<|im_end|>": 32000}
    assert tokenizer.encode("a<|im_end|>") == real("llama-2.model").encode("a<|im_end|>")
    assert tokenizer.decode([263, 32000, 32001, 32002, 263]) == "a<think> a"


def test_a_null_bos_is_final(llama_2_model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(
        (llama_2_model_folder / "tokenizer.model").read_bytes()
    )
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": null}')
    (tmp_path / "config.json").write_text('{"bos_token_id": 5, "eos_token_id": [7, 8]}')
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_id) == (None, 7)


@pytest.mark.parametrize(("text", "expected"), [("▁the", 278), ("no such piece", None)])
def test_a_bos_that_is_an_ordinary_piece(
    text: str, expected: int | None, llama_2_model_folder: Path, tmp_path: Path
) -> None:
    model = (llama_2_model_folder / "tokenizer.model").read_bytes()
    (tmp_path / "tokenizer.model").write_bytes(model)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"bos_token": text}))
    assert load_tokenizer(tmp_path).bos_id == expected


def test_a_model_that_removes_spaces_keeps_those_between_texts(real: Real, test_data: Path) -> None:
    path = test_data / "models" / "stories260K" / "tokenizer.model"
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    tokenizer = real("models/stories260K")
    assert tokenizer.encode("  a  b ") == model.encode("a b")
    assert tokenizer.encode(" b", continues=True) == model.encode("b")
    assert tokenizer.encode("   b", continues=True) == model.encode("b")


class TestBadFolders:
    def test_no_folder(self, tmp_path: Path) -> None:
        with raises("tokenizer-missing", tmp_path / "none", error=TokenizerError):
            load_tokenizer(tmp_path / "none")

    def test_no_tokenizer(self, tmp_path: Path) -> None:
        with raises("tokenizer-missing", tmp_path, "tokenizer.json", "tokenizer.model"):
            load_tokenizer(tmp_path)

    @pytest.mark.parametrize("name", ["tekken.json", "vocab.json", "qwen.tiktoken"])
    def test_a_tokenizer_of_another_format(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("{}")
        with raises("tokenizer-unsupported", name, "save_pretrained"):
            load_tokenizer(tmp_path)

    def test_tiktokens_file_is_not_called_damaged(self, tmp_path: Path) -> None:
        lines = (base64.b64encode(bytes([byte])) + b" %d\n" % byte for byte in range(256))
        (tmp_path / "tokenizer.model").write_bytes(b"".join(lines))
        with raises("tokenizer-unsupported", "tokenizer.model", "tiktoken") as caught:
            load_tokenizer(tmp_path)
        assert "damaged" not in str(caught.value)

    @pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
    def test_git_lfs_pointer(self, name: str, tmp_path: Path) -> None:
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1842767\n"
        (tmp_path / name).write_text(pointer)
        with raises("lfs-pointer", tmp_path / name, "git lfs pull", error=TokenizerError):
            load_tokenizer(tmp_path)

    @pytest.mark.parametrize(
        ("content", "code"),
        [
            (b"", "file-empty"),
            (b"{", "json-malformed"),
            (b"\xff\xfe\x00", "json-malformed"),
            (b"[]", "json-malformed"),
            (b"{}", "tokenizer-damaged"),
            (
                b'{"model": {"type": "BPE", "vocab": {}, "merges": [["a", "b"]]}}',
                "tokenizer-damaged",
            ),
        ],
    )
    def test_malformed_tokenizer_json(self, content: bytes, code: str, tmp_path: Path) -> None:
        (tmp_path / "tokenizer.json").write_bytes(content)
        with raises(code, "tokenizer.json", error=TokenizerError):
            load_tokenizer(tmp_path)

    @pytest.mark.parametrize(
        ("content", "code"), [(b"", "file-empty"), (b"garbage" * 99, "tokenizer-damaged")]
    )
    def test_malformed_tokenizer_model(self, content: bytes, code: str, tmp_path: Path) -> None:
        (tmp_path / "tokenizer.model").write_bytes(content)
        with raises(code, "tokenizer.model", error=TokenizerError):
            load_tokenizer(tmp_path)

    def test_truncated_tokenizer_model(self, llama_2_model_folder: Path, tmp_path: Path) -> None:
        whole = (llama_2_model_folder / "tokenizer.model").read_bytes()
        (tmp_path / "tokenizer.model").write_bytes(whole[: len(whole) // 2])
        with raises("tokenizer-damaged", "tokenizer.model", "SentencePiece"):
            load_tokenizer(tmp_path)

    @pytest.mark.parametrize(
        ("name", "content", "code"),
        [
            ("tokenizer_config.json", "{", "json-malformed"),
            (
                "tokenizer_config.json",
                '{"added_tokens_decoder": {"x": {}}}',
                "tokenizer-damaged",
            ),
            ("tokenizer_config.json", '{"added_tokens_decoder": 5}', "tokenizer-damaged"),
            ("added_tokens.json", '{"a": "b"}', "tokenizer-damaged"),
            ("special_tokens_map.json", "[]", "json-malformed"),
        ],
    )
    def test_malformed_small_files(
        self, name: str, content: str, code: str, llama_2_model_folder: Path, tmp_path: Path
    ) -> None:
        model = (llama_2_model_folder / "tokenizer.model").read_bytes()
        (tmp_path / "tokenizer.model").write_bytes(model)
        (tmp_path / name).write_text(content)
        with raises(code, tmp_path / name, error=TokenizerError):
            load_tokenizer(tmp_path)


def _piece(text: bytes, score: float, kind: int = 1) -> bytes:
    """A piece of a SentencePiece model, in protocol buffers' encoding."""
    inner = b"\x0a" + bytes([len(text)]) + text + b"\x15" + struct.pack("<f", score)
    inner += b"\x18" + bytes([kind])
    return b"\x0a" + bytes([len(inner)]) + inner


def test_a_model_that_the_library_cannot_even_speak_of(tmp_path: Path) -> None:
    """A piece that is there twice is quoted in the reason, and is not UTF-8 here."""
    pieces = [_piece(b"<unk>", 0, kind=2), *[_piece(b"\xd2\xff", -1)] * 2]
    (tmp_path / "tokenizer.model").write_bytes(b"".join(pieces))
    with raises("tokenizer-damaged", tmp_path):
        load_tokenizer(tmp_path)
