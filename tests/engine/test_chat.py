"""``engine.chat.completions.create``: ChatModule's answers, in OpenAI's form."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc_llm import ChatModule, EngineConfig, GenerationConfig, MLCEngine
from mlc_llm.protocol import ChatCompletion, ChatCompletionChunk

from .conftest import MESSAGES, Loader
from .openai_form import read_by_openai

STORY = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "The girl"},
    {"role": "assistant", "content": " sat on the mat."},
    {"role": "user", "content": "And then?"},
]


def texts(reply: ChatCompletion) -> list[str]:
    return [choice.message.content for choice in reply.choices]


class TestAnswers:
    @pytest.mark.parametrize("messages", [MESSAGES, STORY], ids=["turn", "story"])
    @pytest.mark.parametrize(
        ("arguments", "generation"),
        [
            ({}, {}),
            ({"temperature": 0.9, "seed": 3}, {"temperature": 0.9, "seed": 3}),
            (
                {"temperature": 1.2, "seed": 4, "top_p": 0.8, "top_k": 9, "min_p": 0.02},
                {"temperature": 1.2, "seed": 4, "top_p": 0.8, "top_k": 9, "min_p": 0.02},
            ),
            (
                {"presence_penalty": 0.5, "frequency_penalty": 1.0, "repetition_penalty": 1.3},
                {"presence_penalty": 0.5, "frequency_penalty": 1.0, "repetition_penalty": 1.3},
            ),
            ({"max_tokens": 7, "stop": "e"}, {"max_gen_len": 7, "stop": ["e"]}),
            ({"max_completion_tokens": 5}, {"max_gen_len": 5}),
        ],
        ids=["default", "seed", "filters", "penalties", "stop", "length"],
    )
    def test_they_are_those_of_a_chat_module(
        self,
        engine: MLCEngine,
        chat_module: Callable[..., ChatModule],
        messages: list[dict[str, str]],
        arguments: dict[str, Any],
        generation: dict[str, Any],
    ) -> None:
        chat = chat_module()
        expected = chat.generate(messages, GenerationConfig(**generation))
        reply = engine.chat.completions.create(messages=messages, **arguments)
        assert texts(reply) == [expected]
        (result,) = chat.results
        assert reply.choices[0].finish_reason == result.finish_reason
        assert reply.usage.prompt_tokens == result.prompt_tokens
        assert reply.usage.completion_tokens == len(result.token_ids)

    def test_several_are_told_apart_by_their_seeds(
        self, engine: MLCEngine, chat_module: Callable[..., ChatModule]
    ) -> None:
        expected = chat_module().generate(MESSAGES, GenerationConfig(n=3, temperature=1.0, seed=5))
        reply = engine.chat.completions.create(messages=MESSAGES, n=3, temperature=1.0, seed=5)
        assert texts(reply) == expected
        assert len(set(expected)) == 3
        assert [choice.index for choice in reply.choices] == [0, 1, 2]
        read_by_openai(reply)

    def test_no_request_knows_of_another(self, engine: MLCEngine) -> None:
        first = engine.chat.completions.create(messages=STORY)
        engine.chat.completions.create(messages=MESSAGES)
        assert texts(engine.chat.completions.create(messages=STORY)) == texts(first)

    def test_messages_may_be_objects_with_parts(self, engine: MLCEngine) -> None:
        parts = [{"type": "text", "text": "The "}, {"type": "text", "text": "cat"}]
        message = SimpleNamespace(role="user", content=parts)
        reply = engine.chat.completions.create(messages=(message,))
        assert texts(reply) == texts(engine.chat.completions.create(messages=MESSAGES))

    def test_the_models_own_settings_hold(self, load: Loader) -> None:
        engine = load(max_gen_len=5)
        reply = engine.chat.completions.create(messages=MESSAGES)
        assert reply.usage.completion_tokens == 5
        assert reply.choices[0].finish_reason == "length"

    def test_what_the_reply_says_of_itself(self, engine: MLCEngine) -> None:
        reply = engine.chat.completions.create(messages=MESSAGES, request_id="mine", user="me")
        assert reply.id == "mine"
        other = engine.chat.completions.create(messages=MESSAGES)
        assert other.id.startswith("chatcmpl-")
        assert other.system_fingerprint == reply.system_fingerprint
        assert other.model == engine._served._name
        assert abs(other.created - reply.created) < 60

    def test_the_model_may_be_named(self, engine: MLCEngine) -> None:
        name = engine._served.chat.plan.folder.path.name
        assert engine.chat.completions.create(messages=MESSAGES, model=name).model == name


class TestEnds:
    def test_a_bias_by_text_and_the_tokens_that_end_an_answer(self, engine: MLCEngine) -> None:
        eos = engine._served.chat.plan.tokenizer.eos_id
        bias = {str(eos): 100}
        reply = engine.chat.completions.create(messages=MESSAGES, logit_bias=bias)
        assert (texts(reply), reply.choices[0].finish_reason) == ([""], "stop")
        assert reply.usage.completion_tokens == 0
        ignoring = engine.chat.completions.create(
            messages=MESSAGES, logit_bias=bias, ignore_eos=True, max_tokens=6
        )
        assert ignoring.usage.completion_tokens == 6
        assert ignoring.choices[0].finish_reason == "length"

    def test_stop_strings_hold_where_others_are_ignored(self, load: Loader) -> None:
        engine = load(conv_config={"stop_str": ["a"]})
        create = engine.chat.completions.create
        by_template = create(messages=MESSAGES)
        whole = create(messages=MESSAGES, ignore_eos=True)
        assert by_template.choices[0].finish_reason == "stop"
        assert texts(by_template)[0] == texts(whole)[0].partition("a")[0]
        assert "a" in texts(whole)[0]
        cut = create(messages=MESSAGES, ignore_eos=True, stop=["zzz", "a"])
        assert texts(cut) == texts(by_template)
        assert cut.choices[0].finish_reason == "stop"

    def test_the_window_ends_an_answer(self, load: Loader) -> None:
        engine = load(context_window_size=64)
        reply = engine.chat.completions.create(messages=MESSAGES, max_tokens=500, ignore_eos=True)
        assert reply.choices[0].finish_reason == "length"
        # The last token is not read by the model.
        assert reply.usage.total_tokens == 65


class TestLogprobs:
    def test_they_are_those_of_a_chat_module(
        self, engine: MLCEngine, chat_module: Callable[..., ChatModule]
    ) -> None:
        chat = chat_module()
        chat.generate(MESSAGES, GenerationConfig(logprobs=3))
        expected = chat.results[0].logprobs
        assert expected is not None
        reply = engine.chat.completions.create(messages=MESSAGES, logprobs=True, top_logprobs=3)
        logprobs = read_by_openai(reply).choices[0].logprobs
        assert logprobs.refusal is None
        assert [token.logprob for token in logprobs.content] == [t.logprob for t in expected]
        for token, known in zip(logprobs.content, expected, strict=True):
            assert [top.logprob for top in token.top_logprobs] == [t.logprob for t in known.top]
            for one, other in ((token, known), *zip(token.top_logprobs, known.top, strict=True)):
                # Each byte is a token of this model; a control token has none.
                assert len(one.bytes or ()) == bool(other.text)
        assert "".join(token.token for token in logprobs.content) == texts(reply)[0]

    def test_the_bytes_together_are_the_text(self, engine: MLCEngine) -> None:
        reply = engine.chat.completions.create(
            messages=MESSAGES, logprobs=True, temperature=2.0, seed=1, max_tokens=60
        )
        content = reply.choices[0].logprobs.content
        written = bytes(byte for token in content for byte in token.bytes or ())
        assert written.decode(errors="replace") == texts(reply)[0]
        assert any(token.token == "\N{REPLACEMENT CHARACTER}" for token in content)

    def test_a_control_token_has_its_name(self, engine: MLCEngine) -> None:
        tokenizer = engine._served.chat.plan.tokenizer
        eos = tokenizer.eos_id
        reply = engine.chat.completions.create(
            messages=MESSAGES, logit_bias={eos: 100}, ignore_eos=True, max_tokens=1, logprobs=True
        )
        (token,) = reply.choices[0].logprobs.content
        assert tokenizer.special_ids[token.token] == eos
        assert token.bytes is None

    def test_none_unless_asked_for(self, engine: MLCEngine) -> None:
        assert engine.chat.completions.create(messages=MESSAGES).choices[0].logprobs is None
        reply = engine.chat.completions.create(messages=MESSAGES, logprobs=True)
        assert all(not token.top_logprobs for token in reply.choices[0].logprobs.content)
        assert len(reply.choices[0].logprobs.content) == reply.usage.completion_tokens


class TestForms:
    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"cat": {"type": "boolean"}, "age": {"enum": [3, 4]}},
        "required": ["cat", "age"],
        "additionalProperties": False,
    }

    @pytest.mark.parametrize("temperature", [1.2, 2.0])
    def test_answers_fit_a_schema(self, engine: MLCEngine, temperature: float) -> None:
        form = {"type": "json_schema", "json_schema": {"name": "pet", "schema": self.SCHEMA}}
        arguments = {
            "messages": MESSAGES,
            "response_format": form,
            "temperature": temperature,
            "seed": 2,
            "max_tokens": 200,
        }
        reply = engine.chat.completions.create(**arguments, n=3)
        for choice in reply.choices:
            assert choice.finish_reason == "stop"
            pet = json.loads(choice.message.content)
            assert pet.keys() == {"cat", "age"}
            assert isinstance(pet["cat"], bool)
            assert pet["age"] in (3, 4)
        stream = engine.chat.completions.create(**arguments, stream=True)
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert streamed == texts(reply)[0]

    def test_raw_text_has_one_too(self, engine: MLCEngine) -> None:
        form = {"type": "regex", "regex": "(yes|no)!"}
        reply = engine.completions.create(prompt="The girl", response_format=form)
        assert reply.choices[0].text in ("yes!", "no!")


def test_guessing_ahead_changes_no_answer(load: Loader, engine: MLCEngine) -> None:
    guessing = load(config=EngineConfig(speculative_mode="ngram"))
    for arguments in ({}, {"temperature": 0.9, "seed": 3, "n": 2}):
        asked = {"messages": STORY, "max_tokens": 60, **arguments}
        expected = engine.chat.completions.create(**asked)
        assert texts(guessing.chat.completions.create(**asked)) == texts(expected)


class TestUsage:
    def test_what_was_read_before_is_cached(self, engine: MLCEngine) -> None:
        tokenizer = engine._served.chat.plan.tokenizer
        first = engine.chat.completions.create(messages=STORY)
        assert first.usage.prompt_tokens_details.cached_tokens == 0
        again = engine.chat.completions.create(messages=STORY, n=2)
        prompt = again.usage.prompt_tokens
        assert prompt == first.usage.prompt_tokens
        assert prompt > len(tokenizer.encode(STORY[-1]["content"]))
        # The last token's logits are wanted, so that it is read again; and so may be its page.
        assert prompt - 17 <= again.usage.prompt_tokens_details.cached_tokens < prompt
        lengths = [len(tokenizer.encode(text, continues=True)) for text in texts(again)]
        assert again.usage.completion_tokens == sum(lengths)
        assert again.usage.total_tokens == prompt + sum(lengths)

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_conversation_that_goes_on_is_not_read_again(
        self, engine: MLCEngine, stream: bool
    ) -> None:
        """Its answers come back as texts. Another conversation is answered in between."""
        asked: dict[str, Any] = {"temperature": 1.5, "seed": 1, "max_tokens": 40}
        messages, known = [{"role": "system", "content": "Be brief."}], 0
        for turn in ("The girl", "And then?", "Why?"):
            messages.append({"role": "user", "content": turn})
            if stream:
                options = {"include_usage": True}
                chunks = [
                    *engine.chat.completions.create(
                        messages=messages, stream=True, stream_options=options, **asked
                    )
                ]
                *parts, last = chunks
                text = "".join(part.choices[0].delta.content or "" for part in parts)
                usage = last.usage
            else:
                reply = engine.chat.completions.create(messages=messages, **asked)
                (text,), usage = texts(reply), reply.usage
            assert usage is not None
            # All but the answer's last token was computed, and a page has 16.
            assert usage.prompt_tokens_details.cached_tokens >= known - 17
            known = usage.total_tokens
            messages.append({"role": "assistant", "content": text})
            engine.chat.completions.create(messages=MESSAGES, **asked)

    def test_a_cache_may_be_turned_off(self, load: Loader) -> None:
        engine = load(config=EngineConfig(prefix_cache_mode="disable"))
        replies = [engine.chat.completions.create(messages=STORY) for _ in range(2)]
        assert texts(replies[0]) == texts(replies[1])
        assert replies[1].usage.prompt_tokens_details.cached_tokens == 0

    def test_metrics_count_what_was_done(self, engine: MLCEngine) -> None:
        usages = [engine.chat.completions.create(messages=m).usage for m in (STORY, MESSAGES)]
        metrics = engine.metrics()
        assert (metrics.finished_requests, metrics.running_requests) == (2, 0)
        assert (metrics.aborted_requests, metrics.failed_requests) == (0, 0)
        assert metrics.prompt_tokens == sum(usage.prompt_tokens for usage in usages)
        assert metrics.completion_tokens == sum(usage.completion_tokens for usage in usages)
        cached = sum(usage.prompt_tokens_details.cached_tokens for usage in usages)
        assert metrics.prefilled_tokens == metrics.prompt_tokens - cached
        assert metrics.speed.decode.tokens > 0


class TestStreams:
    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        n=st.integers(1, 3),
        seed=st.integers(0, 2**64 - 1),
        max_tokens=st.integers(1, 12),
        stop=st.lists(st.sampled_from(["e", "the", " ", "zzz", "caf\N{LATIN SMALL LETTER E}"])),
        logprobs=st.sampled_from([None, 0, 2]),
        usage=st.booleans(),
    )
    def test_the_chunks_are_the_whole(
        self,
        engine: MLCEngine,
        n: int,
        seed: int,
        max_tokens: int,
        stop: list[str],
        logprobs: int | None,
        usage: bool,
    ) -> None:
        arguments = {
            "messages": MESSAGES,
            "n": n,
            "seed": seed,
            "max_tokens": max_tokens,
            "stop": stop,
            "temperature": 1.0,
            "logprobs": logprobs is not None,
            "top_logprobs": logprobs,
        }
        whole = read_by_openai(engine.chat.completions.create(**arguments))
        options = {"include_usage": True} if usage else None
        stream = engine.chat.completions.create(**arguments, stream=True, stream_options=options)
        chunks = list(stream)
        for chunk in chunks:
            read_by_openai(chunk)
        assert len({(c.id, c.created, c.model, c.system_fingerprint) for c in chunks}) == 1
        self.check_usage(chunks, whole, usage)
        for choice in whole.choices:
            self.check_choice([c for c in chunks if c.choices], choice)

    @staticmethod
    def check_usage(chunks: list[ChatCompletionChunk], whole: Any, usage: bool) -> None:
        if not usage:
            assert all("usage" not in chunk.model_dump() for chunk in chunks)
            return
        last = chunks.pop()
        assert last.choices == []
        assert last.usage is not None
        assert last.usage.completion_tokens == whole.usage.completion_tokens
        assert last.usage.prompt_tokens == whole.usage.prompt_tokens
        assert all(chunk.model_dump()["usage"] is None for chunk in chunks)

    @staticmethod
    def check_choice(chunks: list[ChatCompletionChunk], whole: Any) -> None:
        parts = [c.choices[0] for c in chunks if c.choices[0].index == whole.index]
        first, *middle, last = parts
        assert first.delta.model_dump() == {"role": "assistant", "content": ""}
        assert last.delta.model_dump() == {}
        assert all(part.delta.model_dump().keys() == {"content"} for part in middle)
        assert "".join(part.delta.content or "" for part in parts) == whole.message.content
        reasons = [part.finish_reason for part in parts]
        assert reasons == [None] * (len(parts) - 1) + [whole.finish_reason]
        tokens = [t.model_dump() for p in parts if p.logprobs for t in p.logprobs.content]
        expected = whole.logprobs.content if whole.logprobs else []
        assert tokens == [token.model_dump() for token in expected]

    def test_text_comes_while_it_is_written(
        self, engine: MLCEngine, hold: Callable[..., Any]
    ) -> None:
        held = hold(engine, steps=6)
        stream = engine.chat.completions.create(messages=MESSAGES, stream=True)
        first = [next(stream) for _ in range(3)]
        assert [chunk.choices[0].finish_reason for chunk in first] == [None] * 3
        assert first[2].choices[0].delta.content
        held.let(100)
        assert list(stream)[-1].choices[0].finish_reason == "length"

    def test_log_probabilities_are_finite(self, engine: MLCEngine) -> None:
        stream = engine.chat.completions.create(messages=MESSAGES, stream=True, logprobs=True)
        tokens = [t for c in stream if c.choices[0].logprobs for t in c.choices[0].logprobs.content]
        assert len(tokens) == 24
        assert all(math.isfinite(token.logprob) and token.logprob <= 0 for token in tokens)
