"""What the files beside a ``tokenizer.json`` add to it, and where they know more of its tokens."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import tokenizers

from mlc_llm.errors import TokenizerError
from mlc_llm.shown import shown
from mlc_llm.tokenizer.control import control_texts
from mlc_llm.tokenizer.special import AddedToken, SpecialTokens

logger = logging.getLogger("mlc_llm")


def complete(tokenizer: tokenizers.Tokenizer, special: SpecialTokens, path: Path) -> dict[str, int]:
    """Give the library's tokenizer the tokens and flags of the small files, as transformers does.

    Args:
        tokenizer: the tokenizer of ``tokenizer.json``; it is changed.
        special: what the small files say.
        path: the ``tokenizer.json``, for messages.

    Returns:
        all tokens' ids by text.

    Raises:
        TokenizerError: the files give one token different ids.
    """
    known = {token.content: token for token in tokenizer.get_added_tokens_decoder().values()}
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    told = {token.text: token for token in special.added.values()}
    missing = dict(_missing(special, vocabulary, path))
    control = control_texts(special, {**vocabulary, **missing}, known)
    # The library counts ids up in the order in which tokens come.
    texts = [*sorted(missing, key=missing.__getitem__), *sorted(control), *sorted(told)]
    tokens = [
        _flagged(text, told.get(text), known.get(text), text in control)
        for text in dict.fromkeys(texts)
    ]
    # All at once: for each call the library prepares its search for all added tokens again.
    tokenizer.add_tokens([token for token in tokens if known.get(token.content) != token])
    for text, token_id in missing.items():
        if (here := tokenizer.token_to_id(text)) != token_id:
            raise TokenizerError(
                f"{path} does not fit the files beside it: they give the token {shown(text)} the "
                f"id {token_id}, and after its own tokens it would have the id {here}. Fetch the "
                "tokenizer's files again, all of one model.",
                code="tokenizer-damaged",
            )
    return {**vocabulary, **missing}


def _missing(
    special: SpecialTokens, vocabulary: dict[str, int], path: Path
) -> Iterator[tuple[str, int]]:
    """The tokens that the vocabulary lacks, and their ids."""
    following = max(vocabulary.values(), default=-1) + 1
    for token_id, token in sorted(special.added.items()):
        here = vocabulary.get(token.text)
        if here is None:
            yield token.text, token_id
            following = max(following, token_id + 1)
        elif here != token_id:
            logger.warning(
                "%s gives the token %s the id %d, the files beside it %d; the former is used",
                path,
                shown(token.text),
                here,
                token_id,
            )
    listed = {token.text for token in special.added.values()}
    for text in special.named:
        if text in vocabulary or text in listed:
            continue
        if special.room is not None and following < special.room:
            yield text, following
            following += 1
        elif text in (special.bos, special.eos):
            logger.warning(
                "%s lacks the token %s, which the files beside it name as the begin or the end of "
                "a text; it is not used",
                path,
                shown(text),
            )


def _flagged(
    text: str, told: AddedToken | None, known: tokenizers.AddedToken | None, control: bool
) -> tokenizers.AddedToken:
    """The token as the library wants it, with what is known of it from all files."""
    special = control or (known.special if known else told is not None and told.special is None)
    stated = told if told is not None and told.special is not None else None
    strips: AddedToken | tokenizers.AddedToken | None = stated or known
    return tokenizers.AddedToken(
        text,
        special=special,
        lstrip=strips.lstrip if strips else False,
        rstrip=strips.rstrip if strips else False,
        single_word=known.single_word if known else False,
        normalized=known.normalized if known else False,
    )
