"""``astream`` and ``agenerate``: the loop stays free, tasks queue up, cancellation stops."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import aclosing
from typing import Any

import pytest

from mlc_llm import ChatModule, GenerationConfig
from mlc_llm.chat.streams import StreamChunk
from mlc_llm.errors import ConfigError, GenerationError, PromptTooLongError
from mlc_llm.testing import raises

from .conftest import CHAT, Loader

SETTINGS = GenerationConfig(max_gen_len=40, temperature=0.8, seed=2, logprobs=1)


async def read(chat: ChatModule, prompt: str, *arguments: Any) -> list[StreamChunk]:
    return [chunk async for chunk in chat.astream(prompt, *arguments)]


def test_the_text_is_the_same(load: Loader) -> None:
    chat = load()
    expected = list(chat.stream("The girl", SETTINGS))
    result = chat.results
    chunks = asyncio.run(read(chat, "The girl", SETTINGS))
    assert chunks == expected
    for chunk, other in zip(chunks, expected, strict=True):
        assert (chunk.token_ids, chunk.finish_reason) == (other.token_ids, other.finish_reason)
        assert chunk.logprobs is not None
        assert len(chunk.logprobs) == len(chunk.token_ids)
    assert asyncio.run(chat.agenerate("The girl", SETTINGS)) == "".join(expected)
    assert [r.token_ids for r in chat.results] == [r.token_ids for r in result]


def test_several_answers(load: Loader) -> None:
    chat = load()
    several = GenerationConfig(n=2, temperature=1.0, seed=1)
    assert asyncio.run(chat.agenerate("The", several)) == chat.generate("The", several)
    with raises("config-invalid", "generate", "n", error=ConfigError):
        chat.astream("The", several)


def test_the_history_and_stateless(chat: ChatModule) -> None:
    async def talk() -> None:
        first = "".join(await read(chat, "The cat"))
        second = await chat.agenerate("And then?")
        contents = [message.content for message in chat.messages]
        assert contents == ["The cat", first, "And then?", second]
        assert await chat.agenerate("The cat", stateless=True) == first
        assert chat.messages == ()

    asyncio.run(talk())


def test_the_loop_is_not_blocked(chat: ChatModule, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model waits, in the middle of an answer, for what only another task can give it."""
    decode, waits, given = chat._chat.model.functions.decode, threading.Event(), threading.Event()

    def wait_and_decode(runs: Any) -> Any:
        waits.set()
        assert given.wait(60)
        return decode(runs)

    monkeypatch.setattr(chat._chat.model.functions, "decode", wait_and_decode)

    async def give() -> None:
        while not waits.is_set():
            await asyncio.sleep(0.001)
        given.set()

    async def main() -> None:
        _, text = await asyncio.gather(give(), chat.agenerate("Hello"))
        assert text

    asyncio.run(main())


def test_tasks_are_served_in_order(load: Loader) -> None:
    chat = load(conv_template=CHAT, max_gen_len=6, context_window_size=2048)
    expected = [chat.generate(f"Number {number}") for number in range(10)]
    chat.reset_chat()

    async def main() -> list[Any]:
        return await asyncio.gather(*(chat.agenerate(f"Number {number}") for number in range(10)))

    assert asyncio.run(main()) == expected
    assert [m.content for m in chat.messages[::2]] == [f"Number {n}" for n in range(10)]


def test_streams_of_several_tasks_never_mix(load: Loader) -> None:
    chat = load(max_gen_len=30)
    prompts = [f"{number} girls" for number in range(5)]
    expected = [chat.generate(prompt) for prompt in prompts]

    async def main() -> list[list[StreamChunk]]:
        return await asyncio.gather(*(read(chat, prompt) for prompt in prompts))

    assert ["".join(parts) for parts in asyncio.run(main())] == expected


def test_a_cancelled_task_stops_the_generation(load: Loader) -> None:
    chat = load(conv_template=CHAT, max_gen_len=400)

    async def main() -> None:
        started = asyncio.Event()

        async def talk() -> None:
            async for _ in chat.astream("Hello"):
                started.set()

        task = asyncio.create_task(talk())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert chat.messages == ()
        assert chat.results[0].finish_reason == "cancelled"
        assert await chat.agenerate("Hello", GenerationConfig(max_gen_len=3))

    asyncio.run(main())
    assert len(chat.messages) == 2


def test_a_task_cancelled_amid_several_answers(
    load: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = load(conv_template=CHAT, max_gen_len=20)
    decode, count, cancelled = chat._chat.model.functions.decode, 0, threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def cancel() -> None:
            task.cancel()
            cancelled.set()

        def cancel_in_the_fifth(runs: Any) -> Any:
            nonlocal count
            count += 1
            if count == 5:
                loop.call_soon_threadsafe(cancel)
                assert cancelled.wait(60)
            return decode(runs)

        monkeypatch.setattr(chat._chat.model.functions, "decode", cancel_in_the_fifth)
        task = asyncio.create_task(chat.agenerate("Hello", GenerationConfig(n=3)))
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [result.finish_reason for result in chat.results] == ["cancelled"]
    assert chat.messages == ()


def test_a_task_cancelled_while_it_waits_its_turn(chat: ChatModule) -> None:
    async def main() -> None:
        async with aclosing(chat.astream("Hello")) as stream:
            await anext(stream)
            waiting = asyncio.create_task(chat.agenerate("never"))
            behind = asyncio.create_task(chat.agenerate("Hi"))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert not behind.done()
        answer = await behind
        assert [message.content for message in chat.messages] == ["Hi", answer]

    asyncio.run(main())


def test_a_closed_stream_leaves_the_history(told: ChatModule) -> None:
    before = told.messages

    async def main() -> None:
        stream = told.astream("And then?")
        first = await anext(stream)
        await stream.aclose()
        assert told.results[0].text == first
        assert told.messages == before
        async for _ in told.astream("And then?"):
            break  # asyncio closes what is dropped
        async with aclosing(told.astream("And then?")) as stream:
            await anext(stream)
        assert told.results[0].finish_reason == "cancelled"
        assert told.messages == before
        async for _ in told.astream("And then?"):
            break

    asyncio.run(main())
    assert told.messages == before
    assert told.generate("And then?")


def test_a_stream_that_is_open_when_the_loop_ends(
    told: ChatModule, caplog: pytest.LogCaptureFixture
) -> None:
    """The loop closes all asynchronous generators at once; none is in another's way."""
    before, kept = told.messages, []

    async def main() -> None:
        for _ in range(2):  # The second one is never begun.
            kept.append(told.astream("And then?"))
        await anext(kept[0])

    with caplog.at_level(logging.DEBUG, "asyncio"):
        asyncio.run(main())
    assert [r.getMessage() for r in caplog.records if r.levelno > logging.INFO] == []
    assert told.messages == before
    assert told.generate("And then?")


def test_a_timeout(load: Loader) -> None:
    chat = load(conv_template=CHAT, max_gen_len=450)

    async def main() -> None:
        async with asyncio.timeout(0.01):
            await chat.agenerate("Hello")

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert chat.messages == ()
    assert chat.generate("Hello", GenerationConfig(max_gen_len=2))


def test_errors_reach_the_task(told: ChatModule, monkeypatch: pytest.MonkeyPatch) -> None:
    before = told.messages

    def fail(runs: Any) -> Any:
        raise GenerationError("the device is lost")

    async def main() -> None:
        with pytest.raises(PromptTooLongError):
            await told.agenerate("no " * 600)
        monkeypatch.setattr(told._chat.model.functions, "decode", fail)
        with raises("generation-failed", "the device is lost"):
            await read(told, "And then?")
        monkeypatch.undo()
        assert told.messages == before
        assert await told.agenerate("And then?")

    asyncio.run(main())


def test_nobody_waits_for_himself(chat: ChatModule) -> None:
    """Neither a task that asks inside its own stream, nor a call that would block the loop."""

    async def main() -> None:
        async with aclosing(chat.astream("Hello")) as stream:
            await anext(stream)
            with raises("chat-busy", error=GenerationError):
                await chat.agenerate("nested")
            with raises("chat-busy", "astream", "agenerate"):
                chat.generate("blocking")
        assert chat.generate("Hello")

    asyncio.run(main())


def test_tasks_and_threads_queue_up_together(load: Loader) -> None:
    chat = load(conv_template=CHAT, max_gen_len=4)

    async def main() -> None:
        async with aclosing(chat.astream("one")) as stream:
            await anext(stream)
            thread = threading.Thread(target=chat.generate, args=("two",))
            thread.start()
            while len(chat._lock._waiting) < 2:
                await asyncio.sleep(0.001)
            task = asyncio.create_task(chat.agenerate("three"))
            await asyncio.sleep(0)
            async for _ in stream:
                pass
        await task
        thread.join()

    asyncio.run(main())
    assert [message.content for message in chat.messages[::2]] == ["one", "two", "three"]
