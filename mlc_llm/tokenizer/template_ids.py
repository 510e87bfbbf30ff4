"""A template's token ids and marks, as they are in one tokenizer.

The numbers in a template are those of the family that it was written for: 1 begins a text of
Llama 2, and in other vocabularies 1 is a quotation mark. So the token that begins a text is the
tokenizer's, and a number that stands for a control token counts only where it is one. Numbers that
a ``ConvConfig`` sets are taken as they are.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator

from mlc_llm.errors import TemplateError
from mlc_llm.plugin.template import ConversationTemplate
from mlc_llm.shown import shown
from mlc_llm.tokenizer.base import Tokenizer

logger = logging.getLogger("mlc_llm")

_MARK = re.compile(
    r"<\|[^|<>\s]+\|>|<\uff5c[^\uff5c<>]+\uff5c>|</?s>|<[be]os>|</?[a-z]+(?:_[a-z]+)+>"
)
"""What looks like a control token: ``<|im_start|>``, ``</s>``, ``<start_of_turn>``."""
_SPELLED = frozenset({"<|system|>", "<|user|>", "<|assistant|>"})
"""Marks that some models, such as Zephyr and TinyLlama, were trained to read as plain text."""
_BRACKETED = re.compile(r"<.+>|\[.+\]", re.DOTALL)


def prefix_ids(template: ConversationTemplate, tokenizer: Tokenizer) -> list[int]:
    """The token ids that begin every prompt.

    Raises:
        TemplateError: the tokenizer has no such token, or none that begins a text, which was asked
            for.
    """
    ids = list(template.system_prefix_token_ids or ())
    for token_id in ids:
        if not 0 <= token_id < tokenizer.vocab_size:
            raise TemplateError(
                f"The template {shown(template.name)} begins with token {token_id}, but the "
                f"tokenizer has {tokenizer.vocab_size} tokens: the template is for another model.",
                code="template-mismatch",
            )
    bos = tokenizer.bos_id
    if template.add_bos and bos is None and "add_bos" in template.chosen:
        raise TemplateError(
            "add_bos is set, but the tokenizer has no token that begins a text.",
            code="template-mismatch",
        )
    if _foreign(template, tokenizer, "system_prefix_token_ids"):
        ids = [] if bos is None else [bos]
    if template.add_bos and bos is not None and ids[:1] != [bos]:
        return [bos, *ids]
    if template.add_bos is False and ids[:1] == [bos]:
        return ids[1:]
    return ids


def stop_ids(template: ConversationTemplate, tokenizer: Tokenizer) -> list[int]:
    """The template's own tokens that end an answer."""
    foreign = set(_foreign(template, tokenizer, "stop_token_ids"))
    return [token_id for token_id in template.stop_token_ids if token_id not in foreign]


def marks(template: ConversationTemplate, tokenizer: Tokenizer) -> list[str]:
    """Added tokens that the template marks turns with, though no file calls them control tokens."""
    return marks_in(_literals(template), tokenizer)


def marks_in(texts: Iterable[str], tokenizer: Tokenizer) -> list[str]:
    """The same for a template that writes these texts."""
    text = "\n".join(texts)
    return [
        token
        for token in tokenizer.added_ids
        if len(token) > 2 and token in text and _BRACKETED.fullmatch(token)
    ]


def fitted(template: ConversationTemplate, tokenizer: Tokenizer) -> ConversationTemplate:
    """The template with the token ids that it has in a tokenizer.

    Raises:
        TemplateError: see :func:`prefix_ids`.
    """
    ids = {
        "system_prefix_token_ids": prefix_ids(template, tokenizer) or None,
        "stop_token_ids": stop_ids(template, tokenizer),
        "add_bos": None,
    }
    return template.model_copy(update=ids)


def warn_of_misfits(template: ConversationTemplate, tokenizer: Tokenizer) -> None:
    """Log what in a template is made for another tokenizer."""
    for field, instead in (
        ("system_prefix_token_ids", "the token that begins a text is used instead"),
        ("stop_token_ids", "they do not end an answer"),
    ):
        if foreign := _foreign(template, tokenizer, field):
            logger.warning(
                "The template %s has %s %s, which are ordinary tokens of this tokenizer: %s. "
                "ConvConfig(%s=...) sets others",
                shown(template.name),
                field,
                foreign,
                instead,
                field,
            )
    if spelled := _spelled_marks(template, tokenizer):
        logger.warning(
            "The template %s marks turns with %s, which this tokenizer has not as tokens and reads "
            "as plain text: the template may be for another model",
            shown(template.name),
            ", ".join(map(shown, spelled)),
        )


def _spelled_marks(template: ConversationTemplate, tokenizer: Tokenizer) -> list[str]:
    """What looks like a control token in a template, and is several tokens to a tokenizer."""

    def is_spelled(mark: str) -> bool:
        known = mark in tokenizer.special_ids or mark in tokenizer.added_ids
        return not known and len(tokenizer.encode(mark, continues=True)) > 1

    spelled = [mark for mark in _marks_in("\n".join(_literals(template))) if is_spelled(mark)]
    if any(map(is_spelled, _marks_in("\n".join(template.seps)))):
        return spelled
    return [mark for mark in spelled if mark not in _SPELLED]


def _marks_in(text: str) -> list[str]:
    return list(dict.fromkeys(_MARK.findall(text)))


def _foreign(template: ConversationTemplate, tokenizer: Tokenizer, field: str) -> list[int]:
    """Ids of the template's own that are ordinary tokens, which a template has no reason to name.

    All of the tokens that begin a prompt count as one.
    """
    if field in template.chosen:
        return []
    marked = {tokenizer.bos_id, *tokenizer.end_ids}
    marked.update(tokenizer.special_ids.values(), tokenizer.added_ids.values())
    return [token_id for token_id in getattr(template, field) or () if token_id not in marked]


def _literals(template: ConversationTemplate) -> Iterator[str]:
    """The texts of a template that stand in prompts."""
    yield template.system_template
    yield from template.roles.values()
    yield from template.role_templates.values()
    yield from (*template.seps, template.role_content_sep, template.role_empty_sep)
