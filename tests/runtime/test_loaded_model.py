"""The loaded model: prefix reuse, chunks, windows, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlc_llm.errors import (
    GenerationError,
    PromptTooLongError,
    TokenizerError,
)
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.testing import raises

from .conftest import Loader
from .toy_library import HIDDEN, VOCAB, parameters, reference_logits


def ids(count: int, seed: int = 1) -> list[int]:
    return np.random.default_rng(seed).integers(0, VOCAB, count).tolist()


def assert_logits(found: np.ndarray, tokens: list[int]) -> None:
    np.testing.assert_allclose(found, reference_logits(tokens), rtol=1e-4, atol=1e-4)


def test_prefill_and_decode_equal_numpy(load: Loader) -> None:
    model, tokens = load(), ids(40)
    assert_logits(model.prefill(tokens[:20]), tokens[:20])
    for count in range(21, 41):
        assert_logits(model.decode(tokens[count - 1]), tokens[:count])
    assert model.tokens == tuple(tokens)


def test_logits_are_a_float32_view_without_padding(load: Loader) -> None:
    model = load()
    logits = model.feed(ids(3))
    assert logits.dtype == np.float32
    assert logits.shape == (VOCAB,)
    assert not logits.flags.owndata
    kept = logits.copy()
    model.decode(1)
    np.testing.assert_array_equal(logits, kept)  # a view outlives the next step


@pytest.mark.parametrize("chunk", [1, 5, 16, 17, 64])
def test_chunks_change_nothing(load: Loader, chunk: int) -> None:
    model, tokens = load(prefill_chunk_size=chunk), ids(50)
    # The last token, whose logits are wanted, is computed by itself and counts to the last chunk.
    *chunks, last = (min(chunk, 49 - begin) for begin in range(0, 49, chunk))
    assert list(model.feed_steps(tokens)) == [*chunks, last + 1]
    assert_logits(model.logits, tokens)


def test_feed_prefills_only_what_is_new(load: Loader) -> None:
    model, tokens = load(), ids(40)

    def prefilled(wanted: list[int]) -> int:
        before = model.metrics.prefill.tokens
        assert_logits(model.feed(wanted), wanted)
        assert model.tokens == tuple(wanted)
        return model.metrics.prefill.tokens - before

    assert prefilled(tokens[:30]) == 30
    assert prefilled(tokens) == 11  # the 30th was decoded, and now belongs to the prompt
    assert prefilled(tokens) == 1  # the last token again, for its logits
    assert prefilled(tokens[:17]) == 1
    other = [*tokens[:10], *ids(20, seed=2)]
    assert prefilled(other) == 20
    assert prefilled(ids(12, seed=3)) == 12
    model.reset()
    assert prefilled(other) == 30


def test_pop_goes_back(load: Loader) -> None:
    model, tokens = load(), ids(40)
    model.feed(tokens)
    model.pop(23)
    assert model.tokens == tuple(tokens[:17])
    with raises("generation-failed", "logits", error=GenerationError):
        _ = model.logits
    assert_logits(model.decode(7), [*tokens[:17], 7])
    model.pop(0)
    assert_logits(model.logits, [*tokens[:17], 7])
    model.pop(18)
    assert model.length == 0
    with pytest.raises(ValueError, match="cannot pop 1 of 0"):
        model.pop(1)


def test_embed_gives_the_rows(load: Loader) -> None:
    rows = load().embed([3, 0, 3])
    assert rows.shape == (3, HIDDEN)
    np.testing.assert_array_equal(rows, parameters()["embed.weight"][[3, 0, 3]])


def test_the_window_is_a_limit(load: Loader) -> None:
    model, tokens = load(context_window_size=40), ids(41)
    with raises("prompt-too-long", 41, 40, error=PromptTooLongError):
        model.feed(tokens)
    assert model.length == 0
    assert_logits(model.feed(tokens[:40]), tokens[:40])
    with raises("prompt-too-long", 41, 40, error=PromptTooLongError):
        model.decode(1)
    assert model.tokens == tuple(tokens[:40])
    assert_logits(model.feed(tokens[:40]), tokens[:40])


@pytest.mark.parametrize("token", [-1, VOCAB, 1 << 40])
def test_tokens_of_another_vocabulary_are_refused(load: Loader, token: int) -> None:
    model = load()
    model.feed([1, 2])
    with raises("token-unknown", token, 48, error=TokenizerError):
        model.feed([1, 2, token])
    with pytest.raises(TokenizerError):
        model.embed([token])
    assert model.tokens == (1, 2)
    with pytest.raises(ValueError, match="no tokens"):
        model.feed([])


def test_active_vocabulary_limits_the_logits(load: Loader) -> None:
    assert load(active_vocab_size=40).feed([1]).shape == (40,)


def test_a_failed_pass_leaves_the_model_usable(load: Loader) -> None:
    model, tokens = load(), ids(20)
    model.feed(tokens)
    passes = model.functions._passes
    decode = passes["decode"]

    def broken(*arguments: object) -> None:
        decode(*arguments)
        raise RuntimeError("the device caught fire")

    passes["decode"] = broken
    with raises("generation-failed", "'decode'", "the device caught fire"):
        model.decode(3)
    passes["decode"] = decode
    assert model.tokens == tuple(tokens)
    with raises("generation-failed", "logits", error=GenerationError):
        _ = model.logits
    assert_logits(model.decode(3), [*tokens, 3])


def test_feeding_can_stop_between_chunks(load: Loader) -> None:
    model, tokens = load(prefill_chunk_size=8), ids(40)
    steps = model.feed_steps(tokens)
    assert next(steps) == 8
    assert next(steps) == 8
    steps.close()
    assert model.tokens == tuple(tokens[:16])
    before = model.metrics.prefill.tokens
    assert_logits(model.feed(tokens), tokens)
    assert model.metrics.prefill.tokens - before == 24


def test_resize_makes_a_new_cache(load: Loader) -> None:
    model, tokens = load(context_window_size=20), ids(40)
    model.feed(tokens[:20])
    model.resize(replace(model.window, size=64, chunk=7))
    assert model.length == 0
    assert_logits(model.feed(tokens), tokens)


class TestGeneratedTokens:
    """A token counts as held only if it was computed as the prompt asks for it."""

    def prefilled(self, model: LoadedModel, wanted: list[int], *generated: range) -> int:
        before = model.metrics.prefill.tokens
        assert_logits(model.feed(wanted, generated), wanted)
        return model.metrics.prefill.tokens - before

    def test_a_conversation_goes_on_where_the_answer_ended(self, load: Loader) -> None:
        model, tokens = load(), ids(40)
        assert self.prefilled(model, tokens[:20]) == 20
        for token in tokens[20:30]:
            model.decode(token)
        assert self.prefilled(model, tokens, range(20, 30)) == 10
        assert self.prefilled(model, tokens, range(20, 30)) == 1

    def test_an_answer_that_comes_back_as_a_prompt_is_computed_as_one(self, load: Loader) -> None:
        model, tokens = load(), ids(40)
        model.feed(tokens[:20])
        for token in tokens[20:30]:
            model.decode(token)
        # From the prompt's last token on, which was decoded for its logits.
        assert self.prefilled(model, tokens) == 21

    def test_an_answer_that_was_lost_is_computed_as_it_was(self, load: Loader) -> None:
        model, tokens = load(prefill_chunk_size=7), ids(40)
        names: list[str] = []
        for name, function in model.functions._passes.items():

            def spy(*arguments: object, name: str = name, function: Any = function) -> object:
                names.append(name)
                return function(*arguments)

            model.functions._passes[name] = spy
        steps = list(model.feed_steps(tokens, [range(20, 30)]))
        # 19 tokens of the prompt; its last one and the 10 that were generated; 9 more; the last.
        assert steps == [7, 7, 5, 7, 4, 7, 3]
        assert names == ["prefill"] * 3 + ["replay"] * 2 + ["prefill"] * 2 + ["decode"]
        assert_logits(model.logits, tokens)
