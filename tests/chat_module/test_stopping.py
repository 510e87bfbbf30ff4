"""How an answer ends: stop strings, stop tokens, lengths, cancellation."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc_llm import ChatConfig, ChatModule, ConvConfig, GenerationConfig
from mlc_llm.callback import StreamIterator

from .conftest import CHAT, Loader

PROMPT = "A girl"
LENGTH = 80


@pytest.fixture(scope="module")
def raw(folder: Any, library: str) -> Any:
    """A chat without a template that everything here shares; it keeps no history."""
    with ChatModule(str(folder), "cpu", ChatConfig(temperature=0.0), library) as chat:
        yield chat


def config(**fields: Any) -> GenerationConfig:
    return GenerationConfig(**{"max_gen_len": LENGTH, "seed": 3, "temperature": 0.8, **fields})


@pytest.fixture(scope="module")
def whole(raw: ChatModule) -> str:
    """The answer without any stop: a token a byte, so that each stop string is split over many."""
    text = raw.generate(PROMPT, config())
    assert isinstance(text, str)
    assert raw.results[0].finish_reason == "length"
    assert len(raw.results[0].token_ids) == LENGTH
    return text


def cut(text: str, stops: list[str]) -> str:
    """The text before the stop string that is complete first; the longest of those."""
    for end in range(1, len(text) + 1):
        met = [stop for stop in stops if text[:end].endswith(stop)]
        if met:
            return text[: end - max(map(len, met))]
    return text


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_stop_strings_are_never_shown(raw: ChatModule, whole: str, data: st.DataObject) -> None:
    """Several stop strings, overlapping, pieces of the text or nearly so, however it is taken."""
    starts = data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4))
    stops = [whole[start : start + data.draw(st.integers(1, 6))] for start in starts]
    stops += [stop[:-1] + "Q" for stop in stops if data.draw(st.booleans())]
    expected = cut(whole, stops)
    shown: list[str] = []
    answer = raw.generate(PROMPT, config(stop=stops), lambda text, stopped: shown.append(text))
    assert answer == expected
    assert all(expected.startswith(text) for text in shown)
    parts = list(raw.stream(PROMPT, config(stop=stops)))
    assert all(map(expected.startswith, itertools.accumulate(parts)))
    assert "".join(parts) == expected
    met = expected != whole or any(stop in whole for stop in stops)
    assert raw.results[0].finish_reason == ("stop" if met else "length")


def test_a_stop_string_may_be_given_alone(raw: ChatModule, whole: str) -> None:
    assert raw.generate(PROMPT, config(stop=whole[20:24])) == cut(whole, [whole[20:24]])


def test_what_only_looks_like_the_beginning_of_a_stop_is_shown(raw: ChatModule, whole: str) -> None:
    """Also at the very end, where it is held back until nothing more comes."""
    stop = whole[-3:] + "!"
    assert raw.generate(PROMPT, config(stop=stop)) == whole
    assert "".join(raw.stream(PROMPT, config(stop=stop))) == whole
    assert raw.results[0].finish_reason == "length"


def test_the_templates_stop_strings_and_the_generations_add_up(load: Loader) -> None:
    chat = load(max_gen_len=LENGTH)
    whole = chat.generate(PROMPT)
    assert isinstance(whole, str)
    one, other = whole[30:32], whole[50:54]
    chat.reset_chat(ConvConfig(stop_str=one))
    settings = GenerationConfig(temperature=0.0, max_gen_len=LENGTH)
    assert chat.generate(PROMPT, settings) == cut(whole, [one])
    both = GenerationConfig(temperature=0.0, max_gen_len=LENGTH, stop=other)
    assert chat.generate(PROMPT, both) == cut(whole, [one, other])
    assert chat.results[0].finish_reason == "stop"


def test_the_history_has_what_was_shown(chat: ChatModule) -> None:
    """A stop string in the middle of the tokens leaves a prompt that the next turn can use."""
    text = chat.generate("Once")
    assert isinstance(text, str)
    stop = text[10:13]
    chat.reset_chat()
    answer = chat.generate("Once", GenerationConfig(stop=stop))
    assert answer == cut(text, [stop])
    assert chat.messages[-1].content == answer
    assert chat.messages[-1].token_ids is not None
    assert chat.generate("Go on")


def test_stop_tokens(load: Loader) -> None:
    chat = load(max_gen_len=LENGTH)
    whole = chat.generate(PROMPT)
    ids = chat.results[0].token_ids
    assert isinstance(whole, str)
    stop = ids[len(ids) // 2]
    chat.reset_chat(ConvConfig(stop_token_ids=[stop]))
    text = chat.generate(PROMPT, GenerationConfig(temperature=0.0, max_gen_len=LENGTH))
    (result,) = chat.results
    assert result.token_ids == ids[: ids.index(stop)]
    assert whole.startswith(str(text))
    assert result.finish_reason == "stop"


def test_a_stop_string_that_is_a_special_token(raw: ChatModule) -> None:
    """It has no text, in which a string could be found."""
    bos = {1: 100.0}
    assert raw.generate(PROMPT, config(logit_bias=bos, stop="<s>")) == ""
    assert (raw.results[0].token_ids, raw.results[0].finish_reason) == ((), "stop")
    raw.generate(PROMPT, config(logit_bias=bos))
    assert raw.results[0].token_ids == (1,) * LENGTH


def test_an_answer_that_ends_at_once(load: Loader) -> None:
    chat = load(conv_template=CHAT)
    chat.generate("Hello")
    first = chat.results[0].token_ids[0]
    conv_config = ConvConfig(stop_token_ids=[first])
    chat.reset_chat(ChatConfig(conv_template=CHAT, conv_config=conv_config))
    greedy = GenerationConfig(temperature=0.0)
    assert chat.generate("Hello", greedy) == ""
    assert (chat.results[0].token_ids, chat.results[0].finish_reason) == ((), "stop")
    (chunk,) = chat.stream("Hello", greedy, stateless=True)
    assert (chunk, chunk.finish_reason) == ("", "stop")


def test_max_gen_len(raw: ChatModule, whole: str) -> None:
    for length in (1, 7):
        raw.generate(PROMPT, config(max_gen_len=length))
        (result,) = raw.results
        assert (len(result.token_ids), result.finish_reason) == (length, "length")
        assert whole.startswith(result.text.rstrip("\N{REPLACEMENT CHARACTER}"))


def test_the_end_of_the_window(load: Loader) -> None:
    chat = load(context_window_size=64, max_gen_len=500)
    chat.generate(PROMPT)
    (result,) = chat.results
    assert result.finish_reason == "length"
    # The last token is not fed, so that it needs no room.
    assert result.prompt_tokens + len(result.token_ids) == 65


class TestCancellation:
    """What was broken off is told of, and is no part of the history."""

    def test_a_closed_stream(self, told: ChatModule) -> None:
        before = told.messages
        stream = told.stream("Go on")
        first = next(stream)
        stream.close()
        (result,) = told.results
        assert result.finish_reason == "cancelled"
        assert result.text == first
        assert result.token_ids == first.token_ids
        assert told.messages == before

    def test_a_closed_iterator(self, told: ChatModule) -> None:
        before = told.messages
        stream = StreamIterator(callback_interval=1)
        stream.close()
        answer = told.generate("Go on", progress_callback=stream)
        assert told.results[0].finish_reason == "cancelled"
        assert told.results[0].text == answer
        assert told.messages == before

    def test_an_exception_in_a_callback(self, told: ChatModule) -> None:
        def callback(message: str, stopped: bool) -> None:
            raise RuntimeError("enough")

        with pytest.raises(RuntimeError, match="enough"):
            told.generate("Go on", progress_callback=callback)
        assert told.results[0].finish_reason == "cancelled"
