"""What metadata means, and that which is wrong."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import hypothesis
import numpy as np
import pytest
import tokenizers
from hypothesis import strategies as st

from mlc_llm.errors import MLCError, TokenizerError
from mlc_llm.sources.gguf_pre_tokenizers import DEFAULT, PRE_TOKENIZERS
from mlc_llm.sources.gguf_tokenizer import tokenizer_files
from mlc_llm.testing import raises
from mlc_llm.tokenizer import load_tokenizer
from mlc_llm.tokenizer.split_patterns import is_suspicious

from .conftest import Made, write

Metadata = dict[str, Any]
KEY = "tokenizer.ggml."


class TestByteLevel:
    def test_merges_join_pieces(self, made: Made, byte_vocabulary: Metadata) -> None:
        tokenizer = made(byte_vocabulary)
        texts = byte_vocabulary[f"{KEY}tokens"]
        ids = tokenizer.encode("abcd abc'")
        assert [texts[i] for i in ids] == ["abc", "d", "\u0120a", "b", "c", "'"]
        assert tokenizer.decode(ids) == "abcd abc'"

    def test_a_whole_piece_goes_before_merges(self, made: Made, byte_vocabulary: Metadata) -> None:
        byte_vocabulary[f"{KEY}pre"] = "llama-bpe"
        texts = byte_vocabulary[f"{KEY}tokens"]
        tokenizer = made(byte_vocabulary)
        assert [texts[i] for i in tokenizer.encode("abcd abc")] == ["abc", "d", "\u0120abc"]

    def test_digits_are_split_as_the_pre_tokenizer_says(
        self, made: Made, byte_vocabulary: Metadata
    ) -> None:
        byte_vocabulary[f"{KEY}tokens"][-1] = "12"
        byte_vocabulary[f"{KEY}token_type"][-1] = 1
        byte_vocabulary[f"{KEY}merges"].append("1 2")
        last = len(byte_vocabulary[f"{KEY}tokens"]) - 1
        assert made(byte_vocabulary).encode("12") == [last]
        byte_vocabulary[f"{KEY}pre"] = "smollm"
        assert len(made(byte_vocabulary).encode("12")) == 2

    def test_whole_tokens(self, made: Made, byte_vocabulary: Metadata) -> None:
        tokenizer = made(byte_vocabulary)
        assert tokenizer.special_ids == {"<|start|>": 39, "<|im_end|>": 40}
        assert tokenizer.added_ids == {"  ": 41}
        assert tokenizer.encode("a  b") == [0, 41, 1]
        assert tokenizer.vocab_size == 42

    def test_placeholders_are_no_tokens(self, made: Made, byte_vocabulary: Metadata) -> None:
        # Older converters give them other types.
        for kind in (2, 4, 5):
            byte_vocabulary[f"{KEY}token_type"][-1] = kind
            byte_vocabulary[f"{KEY}tokens"][-1] = "[PAD42]"
            assert made(byte_vocabulary).vocab_size == 42

    def test_arrays_of_numpy(self, byte_vocabulary: Metadata) -> None:
        files = tokenizer_files(byte_vocabulary)
        for name in ("tokens", "merges"):
            byte_vocabulary[KEY + name] = np.array(byte_vocabulary[KEY + name], dtype=object)
        byte_vocabulary[f"{KEY}token_type"] = np.array(byte_vocabulary[f"{KEY}token_type"], "<i4")
        byte_vocabulary[f"{KEY}bos_token_id"] = np.uint32(39)
        byte_vocabulary[f"{KEY}add_bos_token"] = np.bool_(False)
        assert tokenizer_files(byte_vocabulary) == files

    def test_without_types(self, made: Made, byte_vocabulary: Metadata) -> None:
        del byte_vocabulary[f"{KEY}token_type"]
        assert made(byte_vocabulary).special_ids == {"<|start|>": 39, "<|im_end|>": 40}


class TestSentencePiece:
    def test_scores_join_pieces(self, made: Made, piece_vocabulary: Metadata) -> None:
        texts = piece_vocabulary[f"{KEY}tokens"]
        texts[261] = "bc"
        tokenizer = made(piece_vocabulary)
        assert [texts[i] for i in tokenizer.encode("abc")] == ["\u2581a", "bc"]
        piece_vocabulary[f"{KEY}scores"][texts.index("ab")] = 1.0
        tokenizer = made(piece_vocabulary)
        assert [texts[i] for i in tokenizer.encode("abc")] == ["\u2581", "ab", "c"]

    def test_bytes_stand_for_what_no_piece_has(
        self, made: Made, piece_vocabulary: Metadata
    ) -> None:
        tokenizer = made(piece_vocabulary)
        ids = tokenizer.encode("a\u00e9")
        assert ids == [259, 3 + 0xC3, 3 + 0xA9]
        assert tokenizer.decode(ids) == "a\u00e9"

    def test_without_a_space_before_text(self, made: Made, piece_vocabulary: Metadata) -> None:
        piece_vocabulary[f"{KEY}add_space_prefix"] = False
        tokenizer = made(piece_vocabulary)
        assert tokenizer.encode("a a") == [263, 259]
        assert tokenizer.decode([259]) == " a"

    def test_runs_of_spaces_that_are_whole_tokens(
        self, made: Made, piece_vocabulary: Metadata
    ) -> None:
        piece_vocabulary[f"{KEY}tokens"].append("  ")
        piece_vocabulary[f"{KEY}token_type"].append(4)
        piece_vocabulary[f"{KEY}scores"].append(-1000.0)
        piece_vocabulary[f"{KEY}add_space_prefix"] = False
        tokenizer = made(piece_vocabulary)
        assert tokenizer.encode("b  b") == [264, 267, 264]
        assert tokenizer.decode([264, 267, 264]) == "b  b"

    def test_a_mark_that_is_called_text(self, made: Made, piece_vocabulary: Metadata) -> None:
        # Older converters call all tokens so that a fine-tune added.
        piece_vocabulary[f"{KEY}tokens"][-1] = "<|im_start|>"
        piece_vocabulary[f"{KEY}token_type"][-1] = 4
        tokenizer = made(piece_vocabulary)
        assert tokenizer.special_ids["<|im_start|>"] == 266
        assert 266 not in tokenizer.encode("a<|im_start|>b")

    def test_begin_and_end_are_the_models_where_nothing_is_said(
        self, made: Made, piece_vocabulary: Metadata
    ) -> None:
        for role in ("bos", "eos"):
            del piece_vocabulary[f"{KEY}{role}_token_id"]
        tokenizer = made(piece_vocabulary)
        assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) == (1, 2, 0)

    def test_without_types(self, made: Made, piece_vocabulary: Metadata) -> None:
        ids = made(piece_vocabulary).encode("abc\u00e9")
        del piece_vocabulary[f"{KEY}token_type"]
        tokenizer = made(piece_vocabulary)
        assert tokenizer.encode("abc\u00e9") == ids
        assert tokenizer.special_ids == {"<unk>": 0, "<s>": 1, "</s>": 2}

    def test_an_unknown_token_that_is_called_a_control_token(
        self, made: Made, piece_vocabulary: Metadata
    ) -> None:
        piece_vocabulary[f"{KEY}token_type"][0] = 3
        assert made(piece_vocabulary).unk_id == 0
        # And what fills the vocabulary up is called unknown.
        piece_vocabulary[f"{KEY}tokens"][-1] = "[PAD266]"
        piece_vocabulary[f"{KEY}token_type"][-1] = 2
        assert made(piece_vocabulary).special_ids == {"<unk>": 0, "<s>": 1, "</s>": 2}

    @pytest.mark.parametrize(("text", "after_special"), [("[INST]", False), ("[inst]", True)])
    def test_the_space_after_a_special_token(
        self, made: Made, piece_vocabulary: Metadata, text: str, after_special: bool
    ) -> None:
        piece_vocabulary[f"{KEY}tokens"][-1] = text
        assert made(piece_vocabulary).prefix_after_special is after_special


class TestBeginAndEnd:
    def test_of_the_file(self, made: Made, byte_vocabulary: Metadata) -> None:
        tokenizer = made(byte_vocabulary)
        assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.end_ids) == (39, 40, {40})

    def test_no_begin(self, made: Made, byte_vocabulary: Metadata) -> None:
        del byte_vocabulary[f"{KEY}bos_token_id"]
        assert made(byte_vocabulary).bos_id is None

    def test_a_begin_that_is_the_padding(self, made: Made, byte_vocabulary: Metadata) -> None:
        byte_vocabulary[f"{KEY}padding_token_id"] = byte_vocabulary[f"{KEY}bos_token_id"]
        assert made(byte_vocabulary).bos_id is None
        template = {"tokenizer.chat_template": "{{ bos_token }}"}
        assert made(byte_vocabulary | template).bos_id == 39
        assert made(byte_vocabulary | {f"{KEY}add_bos_token": True}).bos_id == 39

    @pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "tekken"])
    def test_whether_a_text_begins_with_it(self, byte_vocabulary: Metadata, pre: str) -> None:
        byte_vocabulary[f"{KEY}pre"] = pre
        config = json.loads(tokenizer_files(byte_vocabulary)["tokenizer_config.json"])
        assert config["add_bos_token"] is (pre != "gpt-2")
        byte_vocabulary[f"{KEY}add_bos_token"] = False
        config = json.loads(tokenizer_files(byte_vocabulary)["tokenizer_config.json"])
        assert config["add_bos_token"] is False

    @pytest.mark.parametrize("role", ["eot", "eom"])
    def test_ends_of_turns_and_messages(
        self, made: Made, byte_vocabulary: Metadata, role: str
    ) -> None:
        # Also one that the file calls ordinary text, which it then is not.
        byte_vocabulary[f"{KEY}{role}_token_id"] = 37
        tokenizer = made(byte_vocabulary)
        assert tokenizer.end_ids == {37, 40}
        assert tokenizer.special_ids["abc"] == 37
        assert 37 not in tokenizer.encode("abc")

    def test_a_known_end_that_no_key_names(self, made: Made, byte_vocabulary: Metadata) -> None:
        byte_vocabulary[f"{KEY}eos_token_id"] = 39
        tokenizer = made(byte_vocabulary)
        assert (tokenizer.eos_id, tokenizer.end_ids) == (39, {39, 40})

    def test_the_end_of_a_message_in_harmony(self, made: Made, byte_vocabulary: Metadata) -> None:
        byte_vocabulary[f"{KEY}tokens"][-4:] = ["<|return|>", "<|call|>", "<|end|>", "<|x|>"]
        byte_vocabulary[f"{KEY}token_type"][-4:] = [3, 3, 3, 3]
        byte_vocabulary[f"{KEY}eos_token_id"] = 39
        assert made(byte_vocabulary).end_ids == {39, 40}
        byte_vocabulary[f"{KEY}tokens"][-3] = "<|other|>"
        assert made(byte_vocabulary).end_ids == {39, 41}

    def test_a_begin_that_is_wanted_and_not_named(
        self, byte_vocabulary: Metadata, caplog: pytest.LogCaptureFixture
    ) -> None:
        del byte_vocabulary[f"{KEY}bos_token_id"]
        byte_vocabulary[f"{KEY}add_bos_token"] = True
        files = tokenizer_files(byte_vocabulary)
        assert "bos_token_id" in caplog.text
        assert json.loads(files["tokenizer_config.json"])["add_bos_token"] is False


class TestPreTokenizers:
    def test_a_file_without_the_key(
        self, byte_vocabulary: Metadata, caplog: pytest.LogCaptureFixture
    ) -> None:
        byte_vocabulary[f"{KEY}pre"] = DEFAULT
        files = tokenizer_files(byte_vocabulary)
        assert not caplog.records
        del byte_vocabulary[f"{KEY}pre"]
        assert tokenizer_files(byte_vocabulary) == files
        assert f"{KEY}pre" in caplog.text

    def test_an_unknown_name(self, byte_vocabulary: Metadata) -> None:
        byte_vocabulary[f"{KEY}pre"] = "lama-bpe"
        with raises(
            "tokenizer-unsupported", "lama-bpe", "llama-bpe", f"{KEY}pre", error=TokenizerError
        ):
            tokenizer_files(byte_vocabulary)

    @pytest.mark.parametrize("name", PRE_TOKENIZERS)
    def test_the_patterns_are_safe(self, name: str) -> None:
        for pattern in PRE_TOKENIZERS[name].patterns:
            split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
            split.pre_tokenize_str("it's 12 \n a\u00e9\u4e2d!")
            assert not is_suspicious(pattern)

    @pytest.mark.parametrize(
        ("name", "text", "pieces"),
        [
            ("gpt-2", "I've 12  x", ["I", "'ve", " 12", " ", " x"]),
            ("llama-bpe", "I'VE 1234\n\nx", ["I", "'VE", " ", "123", "4", "\n\n", "x"]),
            ("qwen2", "abc 12!\n", ["abc", " ", "1", "2", "!\n"]),
            ("gpt-4o", "camelCase's 1", ["camel", "Case's", " ", "1"]),
            ("tekken", "camelCase's 12", ["camel", "Case", "'s", " ", "1", "2"]),
            ("deepseek-v3", "a\u4e2d\u6587 1234", ["a", "\u4e2d\u6587", " ", "123", "4"]),
            ("viking", "ab 1c, d", ["ab", " ", "1", "c", ",", " d"]),
        ],
    )
    def test_pieces(self, name: str, text: str, pieces: list[str]) -> None:
        splits = [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
            for pattern in PRE_TOKENIZERS[name].patterns
        ]
        found = tokenizers.pre_tokenizers.Sequence(splits).pre_tokenize_str(text)
        assert [piece for piece, _ in found] == pieces


class TestBadMetadata:
    @pytest.mark.parametrize("kind", ["bert", "t5", "rwkv", "gemma4", "none", "x" * 5000])
    def test_another_kind_of_tokenizer(self, kind: str, byte_vocabulary: Metadata) -> None:
        byte_vocabulary[f"{KEY}model"] = kind
        with raises("tokenizer-unsupported", kind[:20], "gpt2", "llama", error=TokenizerError):
            tokenizer_files(byte_vocabulary)

    def test_no_tokenizer(self) -> None:
        with raises("tokenizer-missing", f"{KEY}model", error=TokenizerError):
            tokenizer_files({"general.architecture": "llama"})

    @pytest.mark.parametrize(
        ("name", "value", "parts"),
        [
            ("model", 3, (3,)),
            ("pre", ["gpt-2"], ()),
            ("tokens", None, ()),
            ("tokens", "abc", ("abc",)),
            ("tokens", [], ()),
            ("tokens", ["a", 7], (7,)),
            ("tokens", ["a", b"b"], ()),
            ("tokens", ["a", "\ud800"], ("UTF-8",)),
            ("tokens", ["a", "b", "a"], ("'a'", 0, 2)),
            ("token_type", [1, 1], (2, 43)),
            ("token_type", [[1]] * 43, ()),
            ("token_type", ["1"] * 43, ("'1'",)),
            ("token_type", [True] * 43, ()),
            ("token_type", [1.5] * 43, (1.5,)),
            ("token_type", [1] * 42 + [7], (42, 7)),
            ("token_type", [1] * 42 + [-1], (42, -1)),
            ("token_type", [1] * 42 + [10**30], ()),
            ("token_type", 1, (1,)),
            ("merges", None, ()),
            ("merges", 5, (5,)),
            ("merges", ["ab"], ("ab",)),
            ("merges", ["a b c"], ("a b c",)),
            ("merges", [" b"], ()),
            ("merges", ["a"], ()),
            ("merges", [["a", "b"]], ()),
            ("merges", ["a \u00fc"], ("\u00fc",)),
            ("merges", ["y z"], ("yz",)),
            ("bos_token_id", 43, (43,)),
            ("eos_token_id", -1, (-1,)),
            ("eot_token_id", 1.0, (1.0,)),
            ("padding_token_id", True, ("True",)),
            ("unknown_token_id", "0", ("'0'",)),
            ("add_bos_token", 1, (1,)),
            ("add_eos_token", "no", ("'no'",)),
            ("add_space_prefix", [], ()),
        ],
    )
    def test_of_byte_level(
        self, name: str, value: Any, parts: tuple[Any, ...], byte_vocabulary: Metadata
    ) -> None:
        if name == "tokens":
            for other in ("bos_token_id", "eos_token_id", "token_type"):
                del byte_vocabulary[KEY + other]
        byte_vocabulary[KEY + name] = value
        with raises("tokenizer-damaged", KEY + name, *parts, error=TokenizerError):
            tokenizer_files(byte_vocabulary)

    @pytest.mark.parametrize(
        ("name", "index", "value", "parts"),
        [
            ("scores", slice(None), [0.0], (1, 267)),
            ("scores", 260, float("nan"), ()),
            ("scores", 260, "x", ("x",)),
            ("tokens", 3 + 65, "no byte", ("<0x41>",)),
            ("token_type", 265, 6, ("'c'",)),
            ("unknown_token_id", None, 265, (265, "'c'")),
        ],
    )
    def test_of_sentencepiece(
        self, name: str, index: Any, value: Any, parts: tuple[Any, ...], piece_vocabulary: Metadata
    ) -> None:
        if index is None:
            piece_vocabulary[KEY + name] = value
            piece_vocabulary[f"{KEY}token_type"][0] = 3
        else:
            piece_vocabulary[KEY + name][index] = value
        with raises("tokenizer-damaged", KEY + name, *parts, error=TokenizerError):
            tokenizer_files(piece_vocabulary)

    @hypothesis.given(data=st.data())
    @hypothesis.settings(
        suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], max_examples=150
    )
    @pytest.mark.parametrize("kind", ["byte_vocabulary", "piece_vocabulary"])
    def test_it_is_an_error_of_ours_or_a_tokenizer(
        self,
        kind: str,
        data: st.DataObject,
        request: pytest.FixtureRequest,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        metadata = dict(request.getfixturevalue(kind))
        scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
        for key in data.draw(st.sets(st.sampled_from(sorted(metadata)), min_size=1, max_size=3)):
            value = metadata[key]
            if isinstance(value, list) and data.draw(st.booleans()):
                # Of the same type, which gets further.
                same = st.sampled_from(value) | st.from_type(type(value[0]))
                changed = list(value)
                for _ in range(data.draw(st.integers(1, 4))):
                    changed[data.draw(st.integers(0, len(value) - 1))] = data.draw(same)
                metadata[key] = changed
            else:
                metadata[key] = data.draw(scalar | st.lists(scalar, max_size=4))
        try:
            files = tokenizer_files(metadata)
        except MLCError:
            return
        tokenizer = load_tokenizer(write(files, tmp_path_factory.mktemp("made")))
        assert tokenizer.vocab_size <= len(metadata[f"{KEY}tokens"])
        # Where a letter became a control token, plain text cannot be encoded.
        with contextlib.suppress(TokenizerError):
            tokenizer.decode(tokenizer.encode("abc  <|start|> \u00e9"))
