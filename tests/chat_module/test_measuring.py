"""Statistics, ``benchmark_generate`` and ``embed_text``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mlc_llm import ChatModule, GenerationConfig
from mlc_llm.errors import ConfigError, PromptTooLongError
from mlc_llm.testing import raises

from .conftest import Loader

VERBOSE = re.compile(
    r"----------- prefill -----------\n"
    r"throughput: (\d+\.\d) tok/s\n"
    r"total tokens: (\d+) tok\n"
    r"total time: (\d+\.\d{3}) s\n"
    r"------------ decode ------------\n"
    r"throughput: (\d+\.\d) tok/s\n"
    r"total tokens: (\d+) tok\n"
    r"total time: (\d+\.\d{3}) s"
)


class TestStats:
    def test_to_the_letter(self, chat: ChatModule) -> None:
        assert chat.stats() == "prefill: 0.0 tok/s, decode: 0.0 tok/s"
        chat.generate("Hello")
        metrics = chat.metrics
        prefill, decode = metrics.prefill.tokens_per_second, metrics.decode.tokens_per_second
        assert chat.stats() == f"prefill: {prefill:.1f} tok/s, decode: {decode:.1f} tok/s"
        match = VERBOSE.fullmatch(chat.stats(verbose=True))
        assert match is not None
        assert match[1] == f"{prefill:.1f}"
        assert int(match[2]) == metrics.prefill.tokens == chat.results[0].prompt_tokens
        assert int(match[5]) == metrics.decode.tokens == 23
        assert float(match[6]) == pytest.approx(metrics.decode.seconds, abs=0.001)

    def test_metrics_are_a_picture_of_the_moment(self, chat: ChatModule) -> None:
        before = chat.metrics
        assert before.time_to_first_token is None
        chat.generate("Hello")
        after = chat.metrics
        assert (before.prefill.tokens, before.decode.tokens) == (0, 0)
        assert after.time_to_first_token is not None
        assert after.prefill.seconds <= after.time_to_first_token < 10
        assert after.decode.tokens_per_second == after.decode.tokens / after.decode.seconds

    def test_they_add_up_until_the_chat_is_reset(self, chat: ChatModule) -> None:
        chat.generate("Hello")
        first = chat.metrics
        chat.generate("And then?")
        second = chat.metrics
        assert second.decode.tokens == 2 * first.decode.tokens
        assert second.prefill.tokens == first.prefill.tokens + chat.results[0].prefilled_tokens
        chat.reset_chat()
        assert chat.stats() == "prefill: 0.0 tok/s, decode: 0.0 tok/s"
        assert chat.metrics.time_to_first_token is None


class TestBenchmark:
    def test_it_writes_exactly_so_many_tokens(self, told: ChatModule) -> None:
        before = told.messages
        text = told.benchmark_generate("The girl", 40)
        assert text.strip()
        assert told.metrics.decode.tokens == 39  # the first one comes with the prompt
        assert told.metrics.prefill.tokens == len("The girl") + 1  # and the BOS
        assert told.messages == before
        assert told.generate("And then?")

    def test_nothing_ends_it_early(self, load: Loader) -> None:
        from mlc_llm import ConvConfig

        chat = load(max_gen_len=3, conv_config=ConvConfig(stop_str=[" ", "a"], stop_tokens=[35]))
        text = chat.benchmark_generate("The girl", 60)
        assert chat.metrics.decode.tokens == 59
        assert " " in text

    def test_what_cannot_be_done(self, chat: ChatModule) -> None:
        with raises("prompt-too-long", 600, 512, error=PromptTooLongError):
            chat.benchmark_generate("The girl", 600)
        with raises("prompt-too-long", error=PromptTooLongError):
            chat.benchmark_generate("The girl", 10**5000)
        for length in (0, -1, 1.5, True):
            with raises("config-invalid", "generate_length", error=ConfigError):
                chat.benchmark_generate("Once", length)  # type: ignore[arg-type]


class TestEmbeddings:
    def test_one_row_a_token(self, chat: ChatModule, checkpoint: Path) -> None:
        from safetensors.numpy import load_file

        table = load_file(checkpoint / "model.safetensors")["model.embed_tokens.weight"]
        text = "Grüße"
        rows = chat.embed_text(text)
        assert (rows.dtype, rows.shape) == (np.float32, (len(text.encode()), 128))
        np.testing.assert_array_equal(rows, table[[3 + byte for byte in text.encode()]])

    def test_the_chat_goes_on_as_if_nothing_had_been(self, told: ChatModule, load: Loader) -> None:
        before = told.messages
        told.embed_text("something else")
        assert told.messages == before
        told.generate("And then?", GenerationConfig(max_gen_len=4))
        assert told.results[0].prefilled_tokens < told.results[0].prompt_tokens

    def test_an_empty_text(self, chat: ChatModule) -> None:
        with raises("prompt-empty", error=ConfigError):
            chat.embed_text("")
