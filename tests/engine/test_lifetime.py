"""Requests that are aborted, dropped or cut off, and engines that end: nothing hangs."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mlc_llm import EngineConfig, MLCEngine
from mlc_llm.errors import GenerationError
from mlc_llm.testing import raises

from .conftest import MESSAGES, HeldChat, Loader

Hold = Callable[..., HeldChat]
LONG = {"messages": MESSAGES, "max_tokens": 400, "ignore_eos": True}


def settled(engine: MLCEngine) -> Any:
    """The metrics when no request runs any more: what is dropped ends at its next step."""
    event = threading.Event()
    for _ in range(2000):
        metrics = engine.metrics()
        if metrics.running_requests == 0:
            return metrics
        event.wait(0.005)
    raise AssertionError(f"requests are still running: {metrics}")


class TestAborting:
    def test_a_stream_ends_as_it_is(self, engine: MLCEngine, hold: Hold) -> None:
        whole = engine.chat.completions.create(**LONG).choices[0].message.content
        held = hold(engine, steps=8)
        stream = engine.chat.completions.create(
            **LONG, stream=True, request_id="mine", stream_options={"include_usage": True}
        )
        chunks = [next(stream) for _ in range(4)]
        assert engine.abort("mine")
        chunks += stream
        *answers, usage = chunks
        text = "".join(chunk.choices[0].delta.content or "" for chunk in answers)
        assert text
        assert whole.startswith(text)
        assert [c.choices[0].finish_reason for c in answers[-2:]] == [None, "abort"]
        assert 0 < usage.usage.completion_tokens < 10
        held.let(100)
        assert held.closed.acquire(timeout=60)
        assert settled(engine).aborted_requests == 1

    def test_a_call_that_waits_returns_what_there_is(self, engine: MLCEngine, hold: Hold) -> None:
        held = hold(engine, steps=8)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(engine.chat.completions.create, **LONG, n=2, request_id="mine")
            for _ in range(16):  # Two answers wait, each after eight steps.
                assert held.begun.acquire(timeout=60)
            assert engine.abort("mine")
            reply = call.result(60)
        assert [choice.finish_reason for choice in reply.choices] == ["abort", "abort"]
        assert reply.usage.completion_tokens > 0
        assert engine.metrics().aborted_requests == 1

    def test_before_the_first_step(self, engine: MLCEngine, hold: Hold) -> None:
        hold(engine)
        stream = engine.completions.create(prompt="The", stream=True, request_id="mine")
        assert engine.abort("mine")
        (chunk,) = stream
        assert (chunk.choices[0].text, chunk.choices[0].finish_reason) == ("", "abort")

    def test_what_is_not_running(self, engine: MLCEngine) -> None:
        reply = engine.chat.completions.create(messages=MESSAGES)
        assert not engine.abort(reply.id)
        assert not engine.abort("another")

    def test_an_id_belongs_to_one_request_at_a_time(self, engine: MLCEngine, hold: Hold) -> None:
        held = hold(engine)
        stream = engine.completions.create(prompt="The", stream=True, request_id="mine")
        with raises("request-id-taken", "mine"):
            engine.completions.create(prompt="The", request_id="mine")
        held.let(1000)
        list(stream)
        assert engine.completions.create(prompt="The", request_id="mine").id == "mine"


class TestReaders:
    @pytest.mark.parametrize("how", ["close", "forget", "never read"])
    def test_one_that_goes_away_stops_the_answer(
        self, engine: MLCEngine, hold: Hold, how: str
    ) -> None:
        held = hold(engine, steps=8)
        stream = engine.chat.completions.create(**LONG, stream=True)
        if how != "never read":
            next(stream)
        if how == "close":
            stream.close()
            assert list(stream) == []
        del stream
        held.let(20)
        assert held.closed.acquire(timeout=60)
        metrics = settled(engine)
        assert metrics.aborted_requests == 1
        assert metrics.completion_tokens < 30
        held.let(1000)
        assert engine.chat.completions.create(messages=MESSAGES).choices[0].message.content

    def test_one_that_does_not_read_holds_up_no_other(self, engine: MLCEngine) -> None:
        kept = engine.chat.completions.create(**LONG, stream=True)
        reply = engine.chat.completions.create(messages=MESSAGES)
        assert reply.choices[0].finish_reason == "length"
        assert len(list(kept)) > 100

    def test_threads_get_their_own_answers(self, engine: MLCEngine) -> None:
        prompts = [f"{number} girls" for number in range(12)]
        expected = [engine.completions.create(prompt=p).choices[0].text for p in prompts]

        def ask(prompt: str) -> str:
            stream = engine.completions.create(prompt=prompt, stream=True)
            return "".join(chunk.choices[0].text for chunk in stream)

        with ThreadPoolExecutor(12) as pool:
            assert list(pool.map(ask, prompts)) == expected


class TestErrors:
    def test_of_the_model_reach_the_reader(
        self, engine: MLCEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> Any:
            raise GenerationError("the device is lost")

        monkeypatch.setattr("mlc_llm.runtime.generation.Sampler.sample", fail)
        stream = engine.completions.create(prompt="The", stream=True)
        with raises("generation-failed", "the device is lost"):
            next(stream)
        assert list(stream) == []
        with raises("generation-failed", "the device is lost"):
            engine.chat.completions.create(messages=MESSAGES, n=2)
        assert engine.metrics().failed_requests == 2
        monkeypatch.undo()
        assert engine.completions.create(prompt="The").choices[0].text


class TestManyAtOnce:
    @pytest.mark.parametrize("mode", ["local", "interactive", "server"])
    def test_answers_are_what_they_are_alone(self, load: Loader, mode: str) -> None:
        config = EngineConfig(max_total_sequence_length=700, prefill_chunk_size=32)
        engine = load(config=config, mode=mode)
        window = engine._served.chat.model.window
        assert (window.total, window.chunk) == (700, 32)
        asked = [
            {"prompt": f"{number} girls", "temperature": 0.9, "seed": number, "max_tokens": 40}
            for number in range(20)
        ]
        alone = [engine.completions.create(**one).choices[0].text for one in asked]
        with ThreadPoolExecutor(20) as pool:
            replies = pool.map(lambda one: engine.completions.create(**one), asked)
            assert [reply.choices[0].text for reply in replies] == alone


class TestTerminating:
    def test_what_runs_ends_with_an_error(self, engine: MLCEngine, hold: Hold) -> None:
        held = hold(engine, steps=8)
        stream = engine.chat.completions.create(**LONG, stream=True)
        next(stream)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(engine.completions.create, prompt="The", max_tokens=300)
            for _ in range(8):
                assert held.begun.acquire(timeout=60)
            while engine.metrics().running_requests < 2:
                assert not call.done()
            engine.terminate()
            with raises("engine-terminated"):
                call.result(60)
        with raises("engine-terminated", error=GenerationError):
            list(stream)
        held.let(1000)

    def test_nothing_can_be_asked_afterwards(self, engine: MLCEngine) -> None:
        engine.terminate()
        engine.terminate()
        assert "terminated" in repr(engine)
        for create, arguments in (
            (engine.chat.completions.create, {"messages": MESSAGES}),
            (engine.completions.create, {"prompt": "The"}),
        ):
            for stream in (False, True):
                with raises("engine-terminated"):
                    create(**arguments, stream=stream)
        assert not engine.abort("mine")
        assert engine.metrics().finished_requests == 0

    def test_a_block_ends_it(self, load: Loader) -> None:
        with load() as engine:
            assert engine.completions.create(prompt="The").choices[0].text
        with raises("engine-terminated"):
            engine.completions.create(prompt="The")

    def test_a_forgotten_engine_lets_go_of_the_model(self, folder: Any, library: str) -> None:
        engine = MLCEngine(str(folder), "cpu", library)
        thread = engine._served.chat.engine._thread
        kept = engine.completions.create(prompt="The", stream=True)
        forgotten = weakref.ref(engine._served)
        del engine
        assert next(kept).choices[0].text is not None  # A stream keeps what it is read from.
        assert list(kept)
        del kept
        gc.collect()
        thread.join(60)
        assert not thread.is_alive()
        assert forgotten() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_that_it_cannot(engine: MLCEngine, hold: Hold) -> None:
    hold(engine, steps=8)
    stream = engine.chat.completions.create(**LONG, stream=True)
    next(stream)
    child = os.fork()
    if child == 0:
        codes = []
        for call in (lambda: list(stream), lambda: engine.completions.create(prompt="The")):
            try:
                call()
            except GenerationError as error:
                codes.append(error.code)
        os._exit(0 if codes == ["engine-dead", "engine-dead"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    stream.close()
