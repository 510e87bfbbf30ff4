"""The arguments of requests are OpenAI's, and some that are named here."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types import completion_create_params as openai_completion
from openai.types.chat import completion_create_params as openai_chat

from mlc_llm import GenerationConfig
from mlc_llm.protocol import ChatCompletionRequest, CompletionRequest
from mlc_llm.testing import raises

MORE = {"top_k", "min_p", "repetition_penalty", "ignore_eos", "request_id"}
"""Arguments beyond OpenAI's."""

REFUSED = {"debug_config", "extra_body"}
"""What users of MLC LLM and of OpenAI's client may give, and are told of."""

NOT_KNOWN = {
    "audio",
    "metadata",
    "modalities",
    "moderation",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "service_tier",
    "store",
    "verbosity",
    "web_search_options",
}
"""Arguments of OpenAI's service that are unknown here, and errors."""

MESSAGES = [{"role": "user", "content": "Hello"}]


def test_the_arguments_of_a_conversation_are_openais() -> None:
    theirs = set(openai_chat.CompletionCreateParamsStreaming.__annotations__)
    theirs |= set(openai_chat.CompletionCreateParamsBase.__annotations__)
    ours = set(ChatCompletionRequest.model_fields)
    assert ours - theirs == MORE | REFUSED
    assert theirs - ours <= NOT_KNOWN


def test_the_arguments_of_raw_text_are_openais() -> None:
    theirs = set(openai_completion.CompletionCreateParamsStreaming.__annotations__)
    theirs |= set(openai_completion.CompletionCreateParamsBase.__annotations__)
    ours = set(CompletionRequest.model_fields)
    assert theirs <= ours
    assert ours - theirs == MORE | REFUSED | {"response_format"}


@pytest.mark.parametrize("name", sorted(NOT_KNOWN))
def test_what_is_not_known_is_not_ignored(name: str) -> None:
    with raises("field-unknown", name):
        ChatCompletionRequest(messages=MESSAGES, **{name: "x"})


def test_what_is_asked_of_the_generation() -> None:
    values = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "n": 2,
        "seed": 7,
        "stop": ["x"],
    }
    request = ChatCompletionRequest(
        messages=MESSAGES,
        **{**values, "stop": "x"},
        logit_bias={"5": -3},
        max_completion_tokens=9,
        logprobs=True,
        top_logprobs=4,
    )
    assert request.generation() == GenerationConfig(
        **values, logit_bias={5: -3.0}, max_gen_len=9, logprobs=4
    )
    assert ChatCompletionRequest(messages=MESSAGES).generation() == GenerationConfig(
        **dict.fromkeys(request.generation().model_fields_set)
    )


@pytest.mark.parametrize(
    ("arguments", "alternatives"),
    [({}, None), ({"logprobs": False}, None), ({"logprobs": True}, 0)],
)
def test_log_probabilities_of_a_conversation(
    arguments: dict[str, Any], alternatives: int | None
) -> None:
    request = ChatCompletionRequest(messages=MESSAGES, **arguments)
    assert request.generation().logprobs == alternatives


def test_lengths_may_have_both_names_where_they_agree() -> None:
    both = ChatCompletionRequest(messages=MESSAGES, max_tokens=3, max_completion_tokens=3)
    assert both.generation().max_gen_len == 3
    assert CompletionRequest(prompt="x", max_tokens=4).generation().max_gen_len == 4


def test_the_callers_own_objects_stay_theirs() -> None:
    stop, bias = ["x"], {"5": 1}
    request = CompletionRequest(prompt=[1, 2], stop=stop, logit_bias=bias)
    stop.append("y")
    bias["6"] = 2
    assert request.stop == ["x"]
    assert request.logit_bias == {5: 1.0}
