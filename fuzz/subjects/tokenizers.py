"""Tokenizers: ``tokenizer.json`` and ``tokenizer.model`` with the small files beside them, and
texts for tokenizers that are sound."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from fuzz.mutation.json_text import json_bytes
from fuzz.mutation.odd_values import TEXTS, odd_text
from fuzz.subject import Case, Subject
from mlc_llm.errors import MLCError
from mlc_llm.tokenizer import Tokenizer, load_tokenizer

_CORPUS = ["the cat sat on the mat", "a dog, and 123 more! <s> x", "Übermut tut selten gut"] * 3
_SPACE = "\u2581"
_SPECIALS = ["<unk>", "<s>", "</s>"]

CONFIG: dict[str, Any] = {
    "bos_token": "<s>",
    "eos_token": {"content": "</s>", "lstrip": False, "special": True},
    "unk_token": "<unk>",
    "pad_token": None,
    "add_prefix_space": None,
    "legacy": False,
    "additional_special_tokens": ["<|im_end|>"],
    "added_tokens_decoder": {"2": {"content": "</s>", "special": True, "lstrip": False}},
    "tokenizer_class": "LlamaTokenizer",
}
GENERATION: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": [2], "vocab_size": 400}


def use(tokenizer: Tokenizer, texts: tuple[str, ...]) -> None:
    """Encode and decode with a tokenizer; what it fails on, it says as an error of ours."""
    for text in texts:
        try:
            ids = tokenizer.encode(text)
            tokenizer.decode(ids)
            tokenizer.decode(tokenizer.encode(text, continues=True), continues=True)
        except MLCError:
            continue
        assert all(0 <= token < tokenizer.vocab_size for token in ids)
    tokenizer.decode([0, 1, 5, tokenizer.vocab_size - 1, tokenizer.vocab_size, 2**31])


_TEXTS = ("", " ", "the cat", "  <s> x</s>", "\0\n\U0001f600é\ufeff", "a" * 300, "<0x0A>123")


class TokenizerFiles(Subject):
    """``tokenizer.json`` of the kinds that language models have."""

    name = "tokenizer-json"
    share = 1.5

    def seeds(self) -> list[Case]:
        around = {
            "tokenizer_config.json": json_bytes(CONFIG),
            "special_tokens_map.json": json_bytes({"bos_token": "<s>", "eos_token": "</s>"}),
            "generation_config.json": json_bytes(GENERATION),
        }
        alone = [{"tokenizer.json": text} for text in self._tokenizers()]
        return [*alone, *({**case, **around} for case in alone)]

    def feed(self, folder: Path) -> None:
        use(load_tokenizer(folder), _TEXTS)

    def _tokenizers(self) -> Iterator[bytes]:
        yield _text_of(self._byte_level())
        yield _text_of(self._byte_fallback())
        yield _text_of(self._unigram())

    @staticmethod
    def _byte_level() -> tokenizers.Tokenizer:
        made = tokenizers.Tokenizer(models.BPE())
        split = pre_tokenizers.Split(tokenizers.Regex(r" ?\p{L}+|\p{N}{1,3}|\s+"), "isolated")
        bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_of])
        made.decoder = decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=300, show_progress=False, special_tokens=_SPECIALS
        )
        made.train_from_iterator(_CORPUS, trainer)
        return made

    @staticmethod
    def _byte_fallback() -> tokenizers.Tokenizer:
        tokens = [*_SPECIALS, "<0x0A>", "<0x41>", _SPACE, *"abcthe", "th", "the", f"{_SPACE}the"]
        vocab = {token: index for index, token in enumerate(tokens)}
        merges = [("t", "h"), ("th", "e"), (_SPACE, "the")]
        model = models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
        made = tokenizers.Tokenizer(model)
        made.normalizer = normalizers.Sequence(
            [normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)]
        )
        steps = (decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse())
        made.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
        made.add_special_tokens(_SPECIALS)
        return made

    @staticmethod
    def _unigram() -> tokenizers.Tokenizer:
        pieces = [*_SPECIALS, _SPACE, *"abcdehtmos", "the", f"{_SPACE}the", "cat"]
        scored = [(piece, -float(index)) for index, piece in enumerate(pieces)]
        made = tokenizers.Tokenizer(models.Unigram(scored, 0, False))
        made.normalizer = normalizers.NFKC()
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        made.decoder = decoders.Metaspace()
        made.add_special_tokens(_SPECIALS)
        return made


class SentencePieceModels(Subject):
    """``tokenizer.model``, a protocol buffer, with the small files beside it."""

    name = "tokenizer-model"

    def seeds(self) -> list[Case]:
        around = {
            "tokenizer_config.json": json_bytes(CONFIG),
            "added_tokens.json": json_bytes({"<|im_end|>": 60}),
        }
        models = [_sentencepiece("bpe", True), _sentencepiece("unigram", False)]
        alone = [{"tokenizer.model": model} for model in models]
        return [*alone, {**alone[0], **around}]

    def feed(self, folder: Path) -> None:
        use(load_tokenizer(folder), _TEXTS)


class TokenizerTexts(Subject):
    """Texts and token ids for sound tokenizers, which never refuse a text of characters."""

    name = "tokenizer-text"
    share = 0.5

    def seeds(self) -> list[Case]:
        return [{"text.json": json_bytes({"text": text, "ids": [1, 5, 9]})} for text in _CORPUS]

    def mutate(self, name: str, content: bytes, random: Random) -> bytes:
        text = "".join(odd_text(random, random.choice(_CORPUS)) for _ in range(random.randrange(9)))
        ids = [random.choice((0, 1, 2, random.randrange(300), 2**31, -1)) for _ in range(20)]
        return json_bytes({"text": text[:5000], "ids": ids})

    @cached_property
    def _tokenizers(self) -> list[Tokenizer]:
        made = []
        for index, case in enumerate(
            [*TokenizerFiles().seeds()[:3], SentencePieceModels().seeds()[0]]
        ):
            folder = Path.cwd() / f"tokenizer{index}"
            folder.mkdir()
            for name, content in case.items():
                (folder / name).write_bytes(content)
            made.append(load_tokenizer(folder))
        return made

    def feed(self, folder: Path) -> None:
        given = json.loads((folder / "text.json").read_bytes())
        text = given["text"]
        for tokenizer in self._tokenizers:
            tokenizer.decode(given["ids"])
            stream = tokenizer.stream()
            assert "".join(map(stream.push, given["ids"])) + stream.finish() is not None
            if text.isprintable() and text.isascii() and not tokenizer.prefix_after_special:
                tokenizer.encode(text)
            else:
                use(tokenizer, (text, text[::-1], *TEXTS[:5]))


def _text_of(tokenizer: tokenizers.Tokenizer) -> bytes:
    return json_bytes(json.loads(tokenizer.to_str()))


def _sentencepiece(kind: str, bytes_too: bool) -> bytes:
    """A small model that SentencePiece trains."""
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_CORPUS * 4),
        model_writer=written,
        model_type=kind,
        vocab_size=300 if bytes_too else 40,
        hard_vocab_limit=False,
        byte_fallback=bytes_too,
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue()
