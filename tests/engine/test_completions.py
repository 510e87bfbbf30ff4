"""``engine.completions.create``: raw text, in OpenAI's older form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc_llm import ChatModule, GenerationConfig, MLCEngine

from .openai_form import read_by_openai


@pytest.mark.parametrize("prompt", ["The girl", "", "caf\N{LATIN SMALL LETTER E WITH ACUTE} "])
def test_the_text_is_that_of_the_template_lm(
    engine: MLCEngine, chat_module: Callable[..., ChatModule], prompt: str
) -> None:
    chat = chat_module(conv_template="LM")
    expected = chat.generate(prompt, GenerationConfig(n=2, temperature=0.9, seed=8))
    reply = engine.completions.create(prompt=prompt, n=2, temperature=0.9, seed=8)
    assert [choice.text for choice in reply.choices] == expected
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == chat.results[0].prompt_tokens
    assert reply.usage.completion_tokens == sum(len(r.token_ids) for r in chat.results)
    assert reply.id.startswith("cmpl-")
    read_by_openai(reply)


def test_token_ids_are_taken_as_they_are(engine: MLCEngine) -> None:
    tokenizer = engine._served.chat.plan.tokenizer
    ids = [tokenizer.bos_id, *tokenizer.encode("The girl")]
    of_text = engine.completions.create(prompt="The girl")
    of_ids = engine.completions.create(prompt=ids)
    assert of_ids.choices == of_text.choices
    assert engine.completions.create(prompt=ids[1:]).usage.prompt_tokens == len(ids) - 1


def test_log_probabilities_of_a_text(
    engine: MLCEngine, chat_module: Callable[..., ChatModule]
) -> None:
    chat = chat_module(conv_template="LM")
    chat.generate("The girl", GenerationConfig(logprobs=2, temperature=1.5, seed=3))
    expected = chat.results[0].logprobs
    assert expected is not None
    reply = engine.completions.create(prompt="The girl", logprobs=2, temperature=1.5, seed=3)
    choice = read_by_openai(reply).choices[0]
    logprobs = choice.logprobs
    assert logprobs.token_logprobs == [token.logprob for token in expected]
    assert logprobs.tokens == [token.text for token in expected]
    for top, token in zip(logprobs.top_logprobs, expected, strict=True):
        likeliest = sorted((*token.top, token), key=lambda one: one.logprob)
        assert top == {one.text: one.logprob for one in likeliest}
    assert logprobs.text_offset == sorted(logprobs.text_offset)
    whole = [
        (offset, text)
        for offset, text in zip(logprobs.text_offset, logprobs.tokens, strict=True)
        if "\N{REPLACEMENT CHARACTER}" not in text
    ]
    assert len(whole) > 10
    assert all(choice.text.startswith(text, offset) for offset, text in whole)


def test_a_character_of_several_tokens_has_one_place(engine: MLCEngine) -> None:
    """Each byte is a token, and a character of two bytes begins where its first one does."""
    ids = engine._served.chat.plan.tokenizer.encode("\N{LATIN SMALL LETTER E WITH ACUTE}x")
    assert len(ids) == 3
    text, offsets = "", []
    for token in ids:  # What comes next is chosen one by one: a bias of 100 beats all others.
        reply = engine.completions.create(
            prompt=[1, 2], logit_bias={token: 100}, max_tokens=1, logprobs=0
        )
        text += reply.choices[0].text
        offsets += reply.choices[0].logprobs.text_offset
    assert offsets == [0, 0, 0]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=st.integers(1, 3),
    seed=st.integers(0, 1000),
    max_tokens=st.integers(1, 12),
    logprobs=st.sampled_from([None, 0, 3]),
    usage=st.booleans(),
)
def test_the_chunks_are_the_whole(
    engine: MLCEngine, n: int, seed: int, max_tokens: int, logprobs: int | None, usage: bool
) -> None:
    arguments: dict[str, Any] = {
        "prompt": "The girl",
        "n": n,
        "seed": seed,
        "max_tokens": max_tokens,
        "temperature": 1.0,
        "logprobs": logprobs,
    }
    whole = read_by_openai(engine.completions.create(**arguments))
    stream = engine.completions.create(
        **arguments, stream=True, stream_options={"include_usage": usage}
    )
    chunks = list(stream)
    if usage:
        last = chunks.pop()
        assert last.choices == []
        read_by_openai(last)
        assert last.usage.total_tokens == whole.usage.total_tokens
    for expected in whole.choices:
        parts = [c.choices[0] for c in chunks if c.choices[0].index == expected.index]
        assert "".join(part.text for part in parts) == expected.text
        assert [p.finish_reason for p in parts[:-1]] == [None] * (len(parts) - 1)
        assert parts[-1].finish_reason == expected.finish_reason
        if logprobs is not None:
            for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
                joined = [v for p in parts if p.logprobs for v in getattr(p.logprobs, name)]
                assert joined == getattr(expected.logprobs, name)
