"""Checks of a device with the models of :mod:`mlc_llm.testing.attention_models`.

For the authors of devices. What is expected is a function from token ids to the logits after each
of them, such as an :class:`~mlc_llm.testing.attention_kinds.AttentionReference`. The ids of a check
must be a few hundred, so that they go beyond windows and fill many pages and chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_llm.runtime.sequence import Run
from mlc_llm.testing.attention_kinds import VOCABULARY, WINDOW
from mlc_llm.testing.attention_models import KindModel
from mlc_llm.testing.workbench import PREFILL_CHUNK, prompt

Array = npt.NDArray[Any]
Expected = Callable[[Sequence[int]], Array]
"""From token ids to the logits after each: (tokens, vocabulary)."""

TOLERANCE = 1e-4
"""How far a logit may be off; their standard deviation is 1."""

_ANSWER = 8
"""Tokens that several sequences decode together."""


def check_one_pass(model: KindModel, expected: Expected, ids: Sequence[int]) -> None:
    """A prompt in one pass, and the logits after all of its tokens, in another order."""
    rows = np.random.default_rng(0).permutation(len(ids)).tolist()
    found = model.functions.score([Run(model.cache(1).add(), ids)], rows)
    _assert_close(found, expected(ids)[rows])


def check_chunks(model: KindModel, expected: Expected, ids: Sequence[int]) -> None:
    """A prompt in chunks, and the logits after all of its tokens."""
    wanted, sequence = expected(ids), model.cache(1).add()
    for begin in range(0, len(ids), PREFILL_CHUNK):
        part = ids[begin : begin + PREFILL_CHUNK]
        found = model.functions.score([Run(sequence, part)], range(len(part)))
        _assert_close(found, wanted[begin : begin + PREFILL_CHUNK])


def check_prompts(model: KindModel, expected: Expected, ids: Sequence[int]) -> None:
    """Prompts of several lengths in chunks, after each of which some tokens are decoded."""
    wanted, chat = expected(ids), model.sequential(PREFILL_CHUNK)
    for length in (1, PREFILL_CHUNK, PREFILL_CHUNK + 1, PREFILL_CHUNK + 2, 100, len(ids) - WINDOW):
        chat.reset()
        answer = ids[length : length + WINDOW]
        found = [chat.feed(ids[:length]).copy(), *(chat.decode(i).copy() for i in answer)]
        _assert_close(found, wanted[length - 1 : length + WINDOW])


def check_decode(model: KindModel, expected: Expected, ids: Sequence[int]) -> None:
    """Token by token from the first one on."""
    chat = model.sequential(PREFILL_CHUNK)
    _assert_close([chat.decode(token).copy() for token in ids], expected(ids))


def check_batch(model: KindModel, expected: Expected, length: int) -> None:
    """Sequences of different lengths, prefilled in one pass and then decoded together."""
    lengths = (1, 2, 15, 16, 17, 40, length // 2, length - _ANSWER)
    ids = [prompt(n + _ANSWER, VOCABULARY, seed=n) for n in lengths]
    wanted = [expected(one) for one in ids]
    cache = model.cache(len(ids))
    held = [cache.add() for _ in ids]
    runs = [Run(one, i[:n]) for one, i, n in zip(held, ids, lengths, strict=True)]
    found = model.functions.score(runs, range(sum(lengths)))
    _assert_close(found, np.concatenate([w[:n] for w, n in zip(wanted, lengths, strict=True)]))
    for step in range(_ANSWER):
        at = [n + step for n in lengths]
        rows = [Run(one, (i[n],)) for one, i, n in zip(held, ids, at, strict=True)]
        found = model.functions.decode(rows)
        _assert_close(found, [w[n] for w, n in zip(wanted, at, strict=True)])


def check_greedy_text(model: KindModel, expected: Expected, ids: Sequence[int]) -> None:
    """The likeliest token after a prompt longer than a window, thirty times."""
    text, chat = list(ids[: 2 * WINDOW]), model.sequential(PREFILL_CHUNK)
    logits = chat.feed(text)
    for _ in range(30):
        text.append(int(logits.argmax()))
        logits = chat.decode(text[-1])
    likeliest = expected(text[:-1]).argmax(axis=1).tolist()
    assert text[2 * WINDOW :] == likeliest[2 * WINDOW - 1 :]


def check_going_back(model: KindModel, expected: Expected, ids: Sequence[int]) -> None:
    """What a window has passed is seen again once the tokens after it are dropped."""
    chat, back, end = model.sequential(PREFILL_CHUNK), WINDOW + 3, 4 * WINDOW
    chat.feed(ids[:end])
    chat.decode(ids[end])
    fed = chat.metrics.prefill.tokens
    other = [*ids[:back], *prompt(20, chat.vocab_size, seed=1)]
    _assert_close(chat.feed(other), expected(other)[-1])
    assert chat.metrics.prefill.tokens - fed == 20, "tokens that the cache holds were computed"
    chat.pop(len(other) - back)
    found = [chat.prefill(ids[back:60]).copy(), *(chat.decode(i).copy() for i in ids[60:70])]
    _assert_close(found, expected(ids)[59:70])


def _assert_close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=0, atol=TOLERANCE)
