"""What is wrong with a request is said at once, and nothing of it reaches the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc_llm import ChatConfig, EngineConfig, MLCEngine
from mlc_llm.errors import ConfigError, MLCError
from mlc_llm.protocol import ChatCompletionRequest, CompletionRequest
from mlc_llm.testing import raises

from .conftest import MESSAGES, Loader


@pytest.fixture
def refusing(engine: MLCEngine) -> Iterator[MLCEngine]:
    """An engine that must have had nothing to do."""
    yield engine
    metrics = engine.metrics()
    assert metrics.running_requests == metrics.failed_requests == metrics.prefilled_tokens == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        ({"temprature": 1}, "field-unknown", ["temprature", "temperature"]),
        ({"temperature": -1}, "config-invalid", ["temperature", -1]),
        ({"temperature": "hot"}, "config-invalid", ["temperature", "'hot'"]),
        ({"n": 0}, "config-invalid", ["n ", 0]),
        ({"n": 129}, "config-invalid", [128, 129]),
        ({"top_logprobs": 2}, "config-invalid", ["top_logprobs", "logprobs=True"]),
        ({"logprobs": True, "top_logprobs": 21}, "config-invalid", [20, 21]),
        ({"logprobs": 3}, "config-invalid", ["logprobs", 3]),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "config-invalid", [3, 4]),
        ({"stop": [""]}, "config-invalid", ["stop"]),
        ({"logit_bias": {"one": 1}}, "config-invalid", ["logit_bias", "one"]),
        ({"logit_bias": {"99999": 1}}, "token-unknown", ["logit_bias", 99999]),
        ({"tools": [{"type": "function"}]}, "argument-unsupported", ["tools"]),
        ({"tool_choice": "auto"}, "argument-unsupported", ["tool_choice"]),
        ({"functions": [{"name": "f"}]}, "argument-unsupported", ["functions"]),
        ({"response_format": {"type": "yaml"}}, "response-format-invalid", ["yaml", "json_schema"]),
        ({"response_format": "json"}, "response-format-invalid", ["'json'"]),
        ({"debug_config": {"ignore_eos": True}}, "argument-unsupported", ["ignore_eos"]),
        ({"extra_body": {"top_k": 3}}, "argument-unsupported", ["extra_body"]),
        ({"model": "gpt-4"}, "model-not-served", ["gpt-4", "small-checkpoint"]),
        ({"messages": []}, "prompt-empty", []),
        ({"messages": "Hello"}, "config-invalid", ["messages", "'Hello'"]),
        ({"messages": [{"role": "user"}]}, "prompt-malformed", ["content"]),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "role-unknown", ["wizard"]),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "text-invalid", ["D800"]),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "content-unsupported",
            ["image_url"],
        ),
        ({"messages": [{"role": "user", "content": "no " * 600}]}, "prompt-too-long", [512]),
    ],
)
def test_a_conversation(
    refusing: MLCEngine, arguments: dict[str, Any], code: str, parts: list[Any], stream: bool
) -> None:
    with raises(code, *parts):
        refusing.chat.completions.create(**{"messages": MESSAGES, **arguments}, stream=stream)


def test_a_token_that_the_model_does_not_have(refusing: MLCEngine) -> None:
    said = {"role": "assistant", "content": "x", "token_ids": [99999]}
    with raises("token-unknown", 99999, 320):
        refusing.chat.completions.create(messages=[*MESSAGES, said, *MESSAGES])
    with raises("token-unknown", 99999, 320):
        refusing.completions.create(prompt=[1, 99999])


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        ({}, "config-invalid", ["prompt"]),
        ({"prompt": []}, "prompt-empty", []),
        ({"prompt": ["one", "two"]}, "config-invalid", ["one prompt"]),
        ({"prompt": [[1], [2]]}, "config-invalid", ["one prompt"]),
        ({"prompt": [1, -1]}, "config-invalid", ["token ids"]),
        ({"prompt": [1.5]}, "config-invalid", ["token ids"]),
        ({"prompt": {"a": 1}}, "config-invalid", ["token ids"]),
        ({"prompt": [3] * 513}, "prompt-too-long", [512, 513]),
        ({"prompt": "x", "echo": True}, "argument-unsupported", ["echo"]),
        ({"prompt": "x", "suffix": "y"}, "argument-unsupported", ["suffix"]),
        ({"prompt": "x", "best_of": 2}, "argument-unsupported", ["best_of"]),
        ({"prompt": "x", "logprobs": True}, "config-invalid", ["logprobs"]),
        ({"prompt": "x", "messages": MESSAGES}, "field-unknown", ["messages"]),
        ({"prompt": "x", "stream_options": {}}, "config-invalid", ["stream=True"]),
    ],
)
def test_raw_text(
    refusing: MLCEngine, arguments: dict[str, Any], code: str, parts: list[Any]
) -> None:
    with raises(code, *parts):
        refusing.completions.create(**arguments)


def test_what_asks_for_nothing_is_no_argument(engine: MLCEngine) -> None:
    nothing = {
        "tools": [],
        "tool_choice": "none",
        "parallel_tool_calls": True,
        "functions": [],
        "function_call": "none",
        "response_format": {"type": "text"},
        "debug_config": None,
        "stop": None,
        "stream_options": None,
        "user": "me",
    }
    plain = engine.chat.completions.create(messages=MESSAGES)
    assert engine.chat.completions.create(messages=MESSAGES, **nothing).choices == plain.choices
    nothing = {"echo": False, "suffix": "", "best_of": 1}
    plain_text = engine.completions.create(prompt="The")
    assert engine.completions.create(prompt="The", **nothing).choices == plain_text.choices


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("kind", [ChatCompletionRequest, CompletionRequest])
def test_odd_arguments_are_errors_of_ours(kind: Any, refusing: MLCEngine) -> None:
    prepare: Callable[[Any], Any] = (
        refusing._served.prepare_chat
        if kind is ChatCompletionRequest
        else refusing._served.prepare_completion
    )
    needed = {"messages": MESSAGES} if kind is ChatCompletionRequest else {"prompt": "x"}

    @settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
    @given(st.dictionaries(st.sampled_from(sorted(kind.model_fields)) | st.text(), ODD))
    def check(arguments: dict[str, Any]) -> None:
        try:
            prepared = prepare(kind(**{**needed, **arguments}))
        except MLCError:
            return  # Any other error fails the test.
        assert len(prepared.requests) == (arguments.get("n") or 1)

    check()


class TestEngines:
    def test_of_an_unknown_mode(self, load: Loader) -> None:
        with raises("field-unknown", "servr", "server", error=ConfigError):
            load(mode="servr")

    def test_with_another_kind_of_configuration(self, folder: Any) -> None:
        with raises("argument-mistyped", "EngineConfig"):
            MLCEngine(str(folder), engine_config={"max_num_sequence": 2})  # type: ignore[arg-type]
        with raises("argument-mistyped", "ChatConfig"):
            MLCEngine(str(folder), chat_config=EngineConfig())  # type: ignore[arg-type]

    def test_whose_sizes_contradict_each_other(self, folder: Any) -> None:
        sizes = EngineConfig(max_single_sequence_length=400, max_total_sequence_length=300)
        with raises("size-invalid", 400, 300):
            MLCEngine(str(folder), "cpu", engine_config=sizes)
        sizes = EngineConfig(max_single_sequence_length=128)
        with raises("size-invalid", 256, 128):
            MLCEngine(
                str(folder),
                "cpu",
                engine_config=sizes,
                chat_config=ChatConfig(context_window_size=256),
            )

    def test_its_sequences_are_as_long_as_it_says(self, load: Loader) -> None:
        engine = load(config=EngineConfig(max_single_sequence_length=100, prefill_chunk_size=16))
        assert engine._served.chat.model.window.size == 100
        assert engine._served.chat.model.window.chunk == 16
        assert engine._served.chat.model.window.sequences == 4
        with raises("prompt-too-long", 101, 100):
            engine.completions.create(prompt=[3] * 101)
        reply = engine.completions.create(prompt=[3] * 90, ignore_eos=True, max_tokens=50)
        assert reply.choices[0].finish_reason == "length"
        assert reply.usage.total_tokens == 101
