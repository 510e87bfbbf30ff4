"""A tokenizer for random models: every byte is a token."""

from __future__ import annotations

from pathlib import Path

SPECIAL_TOKENS = ["<unk>", "<s>", "</s>"]
BOS, EOS = 1, 2


def byte_token(byte: int) -> int:
    """The id of a byte's token."""
    return len(SPECIAL_TOKENS) + byte


def vocabulary(size: int) -> list[str]:
    """The tokens: three special ones, one a byte, fillers.

    Args:
        size: how many there are in all.
    """
    tokens = [*SPECIAL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256))]
    return [*tokens, *(f"<filler {index}>" for index in range(size - len(tokens)))]


def write_tokenizer(path: Path, vocab: int) -> None:
    """Write a ``tokenizer.json`` of the :func:`vocabulary`.

    Args:
        path: the file.
        vocab: how many tokens there are in all.
    """
    # Sides that only count tokens run where this is not installed.
    import tokenizers

    model = tokenizers.models.BPE(
        vocab={token: index for index, token in enumerate(vocabulary(vocab))},
        merges=[],
        unk_token="<unk>",
        byte_fallback=True,
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.decoder = tokenizers.decoders.Sequence(
        [tokenizers.decoders.ByteFallback(), tokenizers.decoders.Fuse()]
    )
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    tokenizer.save(str(path))
