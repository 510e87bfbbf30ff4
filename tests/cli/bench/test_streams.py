"""Several streams: what passes the model, what is made of the times, and what is refused."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.chat.loading import LoadedChat
from mlc_llm.cli.app import run
from mlc_llm.cli.bench.document import document
from mlc_llm.cli.bench.measurement import Spread, measure
from mlc_llm.cli.bench.settings import BenchSettings, stream_counts
from mlc_llm.cli.bench.streams import (
    Answers,
    StreamsMeasurement,
    StreamsResult,
    measure_streams,
    plan_streams,
    require_memory,
)
from mlc_llm.cli.bench.streams_picture import draw_streams
from mlc_llm.cli.bench.tables import show_streams
from mlc_llm.runtime.engine import Stop
from mlc_llm.runtime.memory import estimate
from mlc_llm.runtime.profile import record_kernels
from mlc_llm.testing import raises

from .conftest import CHUNK

SETTINGS = BenchSettings(prompt_length=17, context=3, generate_length=6, repeat=2)


def passes(chat: LoadedChat, streams: list[int], settings: BenchSettings) -> list[int]:
    """How many tokens each pass of a measurement had."""

    def recorded(_: object) -> list[int]:
        with record_kernels(chat.model) as calls:
            measure_streams(chat, streams, settings)
        return [call.tensors[0].shape[0] for call in calls if "embedding" in call.name]

    return chat.engine.call(recorded)


def test_the_tokens_that_pass(chat: LoadedChat) -> None:
    # A prompt's last token is computed with the answers. With the warm-up there are three repeats.
    alone = ([19, 1] + [1] * 7) * 3
    # A chunk takes two prompts and a part of the third, so that two are written earlier. Then all
    # prompts are in the cache, and each step has a token of each.
    together = ([CHUNK, 2, 3 * 19 - CHUNK, 3] + [3] * 7) * 3
    assert passes(chat, [3], SETTINGS) == alone + together


def test_one_token_each(chat: LoadedChat) -> None:
    settings = BenchSettings(prompt_length=1, generate_length=1, repeat=1)
    assert passes(chat, [2], settings) == [1] * 6 + [2] * 6


def test_the_model_is_as_it_was(chat: LoadedChat) -> None:
    window, pages = chat.model.window, chat.model.cache.pool.count
    measure_streams(chat, [2], SETTINGS)
    assert chat.model.window == window
    assert (chat.model.cache.pool.count, chat.model.cache.pool.available) == (pages, pages)


def test_what_is_measured(chat: LoadedChat) -> None:
    found = measure_streams(chat, [4, 2, 4], SETTINGS)
    assert [result.streams for result in found.results] == [1, 2, 4]
    for result in found.results:
        assert len(result.decode.values) == len(result.first_tokens) == SETTINGS.repeat
        assert result.decode.least > 0
        for times in result.first_tokens:
            assert len(times) == result.streams
            assert min(times) > 0
        window = plan_streams(chat.plan.model, result.streams, SETTINGS).window
        assert result.kv_cache == estimate(chat.model.metadata.kv_cache, window, 0).kv_cache


def test_the_arithmetic() -> None:
    first_tokens = ((0.25, 0.5, 4.0, 0.5), (1.0, 1.0, 1.0, 3.0))
    one = StreamsResult(1, 10, Spread((1.0, 2.0)), ((0.5,), (0.5,)), 64)
    four = StreamsResult(4, 10, Spread((2.0, 4.0)), first_tokens, 256)
    assert four.speed.values == (20.0, 10.0)
    assert four.stream_speed.values == (5.0, 2.5)
    assert four.first_token.values == (0.5, 1.0)
    assert four.last_first_token.values == (4.0, 3.0)
    assert StreamsMeasurement(SETTINGS, (one, four)).ratio(four) == 2.0


def test_a_stream_can_fill_the_window_and_no_more(chat: LoadedChat) -> None:
    size = chat.model.window.size
    fitting = BenchSettings(prompt_length=size - 4, generate_length=4, repeat=1)
    assert passes(chat, [1], fitting)[-5:] == [1] * 5
    too_much = BenchSettings(prompt_length=size - 3, generate_length=4, repeat=1)
    with raises("prompt-too-long", size - 3, 4, size):
        measure_streams(chat, [1], too_much)


@pytest.mark.parametrize("number", [0, -1, 1.5, "2", True, None])
def test_numbers_that_are_none(number: Any) -> None:
    with raises("config-invalid", "streams"):
        stream_counts([2, number])


def test_as_many_as_the_message_says_fit(chat: LoadedChat) -> None:
    planned = chat.plan.model
    available = plan_streams(planned, 10, SETTINGS).memory.total - 1
    with raises("memory-too-small", 10, SETTINGS.stream_length) as caught:
        require_memory(planned, 10, SETTINGS, available)
    fitting = re.search(r"(\d+) streams? would fit", str(caught.value))
    assert fitting is not None
    assert int(fitting[1]) == 9
    require_memory(planned, 9, SETTINGS, available)
    require_memory(planned, 10, SETTINGS, available + 1)
    require_memory(planned, 10**9, SETTINGS, None)
    with raises("memory-too-small", "Not even one"):
        require_memory(planned, 2, SETTINGS, planned.memory.weights)


def test_streams_that_do_not_fit_are_refused_before_any_is_measured(chat: LoadedChat) -> None:
    def recorded(_: object) -> int:
        with record_kernels(chat.model) as calls, raises("memory-too-small", 10**9):
            measure_streams(chat, [2, 10**9], SETTINGS)
        return len(calls)

    assert chat.engine.call(recorded) == 0


def test_an_answer_that_fails_ends_all(chat: LoadedChat) -> None:
    def write(_: object) -> None:
        with Answers(chat, Stop()) as answers:
            answers.add([1, 2, 3], 5)
            answers.step()
            answers.add([chat.model.vocab_size], 5)
            answers.step()

    with raises("token-unknown", chat.model.vocab_size):
        chat.engine.call(write)
    pool = chat.model.cache.pool
    assert pool.available == pool.count


def test_a_stop_ends_all(chat: LoadedChat) -> None:
    stop = Stop()

    def write() -> None:
        with Answers(chat, stop) as answers:
            answers.add([1, 2, 3], 5)
            answers.step()
            stop.set()
            answers.step()

    def refused(_: object) -> None:
        with pytest.raises(CancelledError):
            write()

    chat.engine.call(refused)
    pool = chat.model.cache.pool
    assert pool.available == pool.count


def test_the_table_and_the_document(chat: LoadedChat, capsys: pytest.CaptureFixture[str]) -> None:
    found = measure_streams(chat, [1, 2], SETTINGS)
    show_streams(found)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "Streams, each with a prompt of 20 tokens and an answer of 6"
    assert [line.split()[0] for line in lines[2:]] == ["streams", "1", "2"]
    one, two = (line.split() for line in lines[3:])
    assert one[5] == "1.00"
    assert two[5] == f"{found.ratio(found.results[1]):.2f}"
    whole = document(chat, measure(chat, SETTINGS), streams=found)
    assert json.loads(json.dumps(whole)) == whole
    row = whole["streams"][1]
    assert row["streams"] == 2
    assert row["decode"]["seconds"]["values"] == list(found.results[1].decode.values)
    assert row["decode"]["tokens_per_second"]["values"] == list(found.results[1].speed.values)
    assert row["time_to_first_token"]["values"] == [list(t) for t in found.results[1].first_tokens]
    assert row["kv_cache"] == found.results[1].kv_cache


def test_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    one = StreamsResult(1, 10, Spread((1.0, 2.0)), ((0.5,), (0.5,)), 64)
    three = StreamsResult(3, 10, Spread((2.0, 4.0)), ((0.5, 1, 2), (1, 1, 1)), 256)
    path = tmp_path / "streams.svg"
    draw_streams(StreamsMeasurement(SETTINGS, (one, three)), "a model, cpu:0", path)
    root = ElementTree.parse(path).getroot()
    texts = {"".join(element.itertext()).strip() for element in root.iter() if element.text}
    assert {"a model, cpu:0", "1.00x", "1.50x", "3.8", "All streams", "3"} <= texts


def test_the_command(
    mlc_llm: Callable[..., Any], model: Path, library: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "streams.svg"
    sizes = ("--prompt-length", "8", "--generate-length", "4", "--repeat", "2", "--threads", "1")
    options = ("--device", "cpu", "--model-lib", library, "--streams", "2, 1,2")
    result = mlc_llm("bench", model, *options, *sizes, "--json", "--picture", picture)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert [row["streams"] for row in found["streams"]] == [1, 2]
    assert "profile" not in found
    assert picture.read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.parametrize("value", ["0", "1,0", "many", "1,,2", "", "2.5", "-1", "1;2"])
def test_bad_values(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "demo", "--streams", value]) == 2
    out, err = capsys.readouterr()
    assert (out, f"{value} does not list whole numbers from 1" in err) == ("", True)


def test_one_picture_for_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = str(tmp_path / "both.svg")
    assert run(["bench", "demo", "--streams", "2", "--profile", "--picture", picture]) == 2
    assert "--picture" in capsys.readouterr().err


def test_too_many_for_the_memory(
    model: Path, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--device", "cpu", "--model-lib", str(library), "--streams", "1000000000"]
    sizes = ["--prompt-length", "8", "--generate-length", "4"]
    assert run(["bench", str(model), *options, *sizes]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "1000000000 streams of 12 tokens need about" in err
    assert "Using library model" not in err
