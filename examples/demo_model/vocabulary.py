"""The tokenizer: byte-pair encoding with byte fallback, in the form of Llama's own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from examples.demo_model.corpus import Sample

SPECIAL = ("<unk>", "<s>", "</s>")
SIZE = 2048
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))


def train_tokenizer(samples: Iterable[Sample], folder: Path) -> Path:
    """Train the tokenizer and write ``tokenizer.json`` and ``tokenizer_config.json``.

    Token 0 is ``<unk>``, 1 ``<s>`` and 2 ``</s>``, as Llama-2's template has them; then come the
    256 bytes, which spell what the vocabulary lacks. Digits and the marks that end a sentence are
    tokens of their own, so that words and numbers look alike wherever they stand. No space is put
    before a text. Of equal lines only one counts, or the commonest answers would fill the
    vocabulary.

    Args:
        samples: what to learn the merges from.
        folder: where to write; made if need be.

    Returns:
        The folder.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\n.,;:!?]|\d"), "isolated"),
            pre_tokenizers.Metaspace(prepend_scheme="never"),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL]
        + [AddedToken(byte, special=False) for byte in BYTES],
        # Every printable ASCII character, whether the corpus has it or not.
        initial_alphabet=[chr(code) for code in range(33, 127)] + ["▁", "\n"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(_lines(samples))), trainer)
    folder.mkdir(parents=True, exist_ok=True)
    _write(tokenizer, folder)
    return folder


def _lines(samples: Iterable[Sample]) -> Iterator[str]:
    for sample in samples:
        if isinstance(sample, str):
            yield from sample.split(". ")
            continue
        yield from (f"<<SYS>>\n{sample.system}\n<</SYS>>", "[INST] [/INST]")
        for turn in sample.turns:
            yield f" {turn.user}"
            # The first word of an answer follows a space that is a token by itself.
            yield from (turn.answer, *turn.answer.splitlines(), *turn.answer.split(". "))


def _write(tokenizer: Tokenizer, folder: Path) -> None:
    data = json.loads(tokenizer.to_str())
    # The bytes belong to the vocabulary; only the three special tokens are found in text.
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] in SPECIAL]
    (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False), "utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
