"""Finding the tokenizer of a model folder."""

from __future__ import annotations

from pathlib import Path

from mlc_llm.errors import TokenizerError
from mlc_llm.files import is_file
from mlc_llm.tokenizer.base import Tokenizer
from mlc_llm.tokenizer.foreign import what_it_has_instead
from mlc_llm.tokenizer.special import read_special_tokens

HUGGING_FACE_FILE = "tokenizer.json"
SENTENCE_PIECE_FILE = "tokenizer.model"


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Load the tokenizer of a model folder: ``tokenizer.json``, or else ``tokenizer.model``.

    Raises:
        TokenizerError: there is neither file, or one is malformed, a Git-LFS pointer, or cannot be
            read.
    """
    folder = Path(folder)
    if is_file(path := folder / HUGGING_FACE_FILE, TokenizerError):
        from mlc_llm.tokenizer.huggingface import HuggingFaceTokenizer

        return HuggingFaceTokenizer(path, read_special_tokens(folder))
    if is_file(path := folder / SENTENCE_PIECE_FILE, TokenizerError):
        from mlc_llm.tokenizer.sentencepiece import SentencePieceTokenizer

        return SentencePieceTokenizer(path, read_special_tokens(folder))
    if not folder.is_dir():
        raise TokenizerError(
            f"There is no folder {folder} to load a tokenizer from.", code="tokenizer-missing"
        )
    instead = what_it_has_instead(folder)
    raise TokenizerError(
        f"{folder} holds no tokenizer: neither {HUGGING_FACE_FILE} nor {SENTENCE_PIECE_FILE}."
        + (instead or " Copy the tokenizer files of the original model into it."),
        code="tokenizer-unsupported" if instead else "tokenizer-missing",
    )
