"""``AsyncMLCEngine``: the same answers, a free loop, and no thread of its executor."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import pytest

from mlc_llm import AsyncMLCEngine, MLCEngine
from mlc_llm.errors import GenerationError
from mlc_llm.testing import raises

from .conftest import MESSAGES, HeldChat
from .openai_form import read_by_openai

Hold = Callable[..., HeldChat]
LONG = {"messages": MESSAGES, "max_tokens": 400, "ignore_eos": True}


async def until(condition: Callable[[], Any]) -> None:
    """Wait for what other threads are about to do, with the loop free; at most a minute."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)


async def settled(engine: AsyncMLCEngine) -> Any:
    await until(lambda: not engine._served._running)
    return await engine.metrics()


def without_marks(reply: Any) -> dict[str, Any]:
    """A reply without its id, its time, and what depends on the cache."""
    data: dict[str, Any] = read_by_openai(reply).model_dump()
    for name in ("id", "created", "usage"):
        data.pop(name)
    return data


def test_the_replies_are_the_same(async_engine: AsyncMLCEngine, engine: MLCEngine) -> None:
    arguments = {"n": 2, "seed": 4, "temperature": 1.0, "max_tokens": 9}
    chat = {"messages": MESSAGES, "logprobs": True, "top_logprobs": 2, **arguments}
    text = {"prompt": "The girl", "logprobs": 2, **arguments}

    async def main() -> None:
        for twin, own, asked in (
            (async_engine.chat.completions, engine.chat.completions, chat),
            (async_engine.completions, engine.completions, text),
        ):
            assert without_marks(await twin.create(**asked)) == without_marks(own.create(**asked))
            chunks = [chunk async for chunk in await twin.create(**asked, stream=True)]
            expected = list(own.create(**asked, stream=True))
            for index in range(2):
                assert parts(chunks, index) == parts(expected, index)
        metrics = await async_engine.metrics()
        assert (metrics.finished_requests, metrics.running_requests) == (4, 0)

    def parts(chunks: list[Any], index: int) -> list[Any]:
        return [c.choices[0].model_dump() for c in chunks if c.choices[0].index == index]

    asyncio.run(main())


def test_a_hundred_requests_need_no_executor(async_engine: AsyncMLCEngine) -> None:
    """The loop's executor has one thread, which waits until all answers are there."""
    prompts = [f"{number} girls" for number in range(100)]

    async def one(prompt: str) -> str:
        stream = await async_engine.completions.create(prompt=prompt, stream=True, max_tokens=6)
        return "".join([chunk.choices[0].text async for chunk in stream])

    async def main() -> list[str]:
        done = threading.Event()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, done.wait, 60)
        answers = await asyncio.gather(*map(one, prompts))
        done.set()
        assert await busy
        return answers

    answers = asyncio.run(main())

    async def alone() -> list[str]:
        create = async_engine.completions.create
        replies = [await create(prompt=prompt, max_tokens=6) for prompt in prompts]
        return [reply.choices[0].text for reply in replies]

    assert answers == asyncio.run(alone())


def test_the_loop_is_free_while_answers_are_written(
    async_engine: AsyncMLCEngine, hold: Hold
) -> None:
    """The answer waits, step by step, for what only another task gives it."""
    held = hold(async_engine)

    async def give() -> None:
        while True:
            await asyncio.sleep(0)
            held.let(1)

    async def main() -> None:
        giving = asyncio.create_task(give())
        reply = await async_engine.chat.completions.create(messages=MESSAGES)
        giving.cancel()
        assert reply.choices[0].finish_reason == "length"

    asyncio.run(main())


@pytest.mark.parametrize("streams", [False, True])
def test_a_cancelled_task_stops_its_answer(
    async_engine: AsyncMLCEngine, hold: Hold, streams: bool
) -> None:
    held = hold(async_engine, steps=8)

    async def talk() -> None:
        reply = await async_engine.chat.completions.create(**LONG, stream=streams)
        async for _ in reply:
            pass

    async def main() -> None:
        task = asyncio.create_task(talk())
        for _ in range(8):
            await until(lambda: held.begun.acquire(blocking=False))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        held.let(20)
        await until(lambda: held.closed.acquire(blocking=False))
        metrics = await settled(async_engine)
        assert metrics.aborted_requests == 1
        assert metrics.completion_tokens < 30
        held.let(1000)
        reply = await async_engine.chat.completions.create(messages=MESSAGES)
        assert reply.choices[0].message.content

    asyncio.run(main())


def test_a_task_that_is_cancelled_while_its_answer_begins(
    async_engine: AsyncMLCEngine, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, prepare = hold(async_engine, steps=8), async_engine._served.prepare_chat
    begins, cancelled = threading.Event(), threading.Event()

    def prepare_late(request: Any) -> Any:
        begins.set()
        assert cancelled.wait(60)
        return prepare(request)

    monkeypatch.setattr(async_engine._served, "prepare_chat", prepare_late)

    async def main() -> None:
        task = asyncio.create_task(async_engine.chat.completions.create(**LONG))
        await until(begins.is_set)
        task.cancel()
        # The error keeps all that the task had, as where it is logged.
        with pytest.raises(asyncio.CancelledError) as kept:
            await task
        cancelled.set()
        held.let(20)
        await until(lambda: held.closed.acquire(blocking=False))
        assert (await settled(async_engine)).aborted_requests == 1
        del kept

    asyncio.run(main())


@pytest.mark.parametrize("how", ["close", "break", "never read"])
def test_a_reader_that_goes_away_stops_the_answer(
    async_engine: AsyncMLCEngine, hold: Hold, how: str
) -> None:
    held = hold(async_engine, steps=8)

    async def main() -> None:
        stream = await async_engine.chat.completions.create(**LONG, stream=True)
        if how == "close":
            async with aclosing(stream):
                await anext(stream)
        elif how == "break":
            async for _ in stream:
                break
        del stream
        await asyncio.sleep(0)  # asyncio closes what is dropped.
        held.let(20)
        await until(lambda: held.closed.acquire(blocking=False))
        assert (await settled(async_engine)).aborted_requests == 1

    asyncio.run(main())


def test_a_stream_that_is_open_when_the_loop_ends(
    async_engine: AsyncMLCEngine, hold: Hold, caplog: pytest.LogCaptureFixture
) -> None:
    held, kept = hold(async_engine, steps=8), []

    async def main() -> None:
        for _ in range(2):  # The second one is never read.
            kept.append(await async_engine.chat.completions.create(**LONG, stream=True))
        await anext(kept[0])

    with caplog.at_level(logging.DEBUG, "asyncio"):
        asyncio.run(main())
    assert [r.getMessage() for r in caplog.records if r.levelno > logging.INFO] == []
    kept.clear()
    held.let(1000)

    async def after() -> None:
        metrics = await settled(async_engine)
        assert metrics.failed_requests == 0
        assert await async_engine.chat.completions.create(messages=MESSAGES)

    asyncio.run(after())


def test_abort(async_engine: AsyncMLCEngine, hold: Hold) -> None:
    hold(async_engine, steps=8)

    async def main() -> None:
        stream = await async_engine.chat.completions.create(**LONG, stream=True, request_id="mine")
        await anext(stream)
        assert await async_engine.abort("mine")
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].choices[0].finish_reason == "abort"
        assert not await async_engine.abort("mine")

    asyncio.run(main())


def test_errors_come_with_the_await(async_engine: AsyncMLCEngine) -> None:
    create = async_engine.chat.completions.create

    async def main() -> None:
        with raises("field-unknown", "temprature", "temperature"):
            await create(messages=MESSAGES, temprature=1)
        with raises("prompt-too-long", 512):
            await create(messages=[{"role": "user", "content": "no " * 600}], stream=True)
        with raises("argument-unsupported", "suffix"):
            await async_engine.completions.create(prompt="x", suffix="y")
        assert (await async_engine.metrics()).prefilled_tokens == 0

    asyncio.run(main())


def test_terminating(async_engine: AsyncMLCEngine, hold: Hold) -> None:
    held = hold(async_engine, steps=8)

    async def main() -> None:
        stream = await async_engine.chat.completions.create(**LONG, stream=True)
        async with async_engine:
            await anext(stream)
            waiting = asyncio.create_task(async_engine.completions.create(prompt="The"))
            await until(lambda: len(async_engine._served._running) == 2)
        with raises("engine-terminated"):
            await waiting
        with raises("engine-terminated", error=GenerationError):
            async for _ in stream:
                pass
        with raises("engine-terminated"):
            await async_engine.completions.create(prompt="The")
        async_engine.terminate()
        held.let(1000)

    asyncio.run(main())
