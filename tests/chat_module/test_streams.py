"""Streams: the same text however it is taken, typed chunks, errors on either side, threads."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from mlc_llm import ChatModule, GenerationConfig
from mlc_llm.callback import DeltaCallback, StreamIterator, StreamToStdout
from mlc_llm.chat.streams import StreamChunk
from mlc_llm.errors import GenerationError, PromptTooLongError
from mlc_llm.testing import raises

from .conftest import CHAT, Loader

SETTINGS = [
    GenerationConfig(max_gen_len=60),
    GenerationConfig(max_gen_len=60, temperature=0.9, seed=3),
    GenerationConfig(max_gen_len=60, temperature=0.9, seed=4, top_p=0.9, presence_penalty=0.5),
]


def in_thread(chat: ChatModule, prompt: str, settings: GenerationConfig, **options: Any) -> str:
    """The answer, read from another thread than the one that generates it."""
    stream = StreamIterator(**options)
    thread = threading.Thread(
        target=chat.generate,
        kwargs={"prompt": prompt, "generation_config": settings, "progress_callback": stream},
    )
    thread.start()
    parts = list(stream)
    thread.join()
    assert "" not in parts
    return "".join(parts)


class TestText:
    @pytest.mark.parametrize("settings", SETTINGS)
    def test_is_the_same_however_it_is_taken(
        self, load: Loader, capsys: pytest.CaptureFixture[str], settings: GenerationConfig
    ) -> None:
        chat = load()
        expected = chat.generate("The girl", settings)
        ids = chat.results[0].token_ids
        assert "".join(chat.stream("The girl", settings)) == expected
        assert chat.results[0].token_ids == ids
        assert chat.generate("The girl", settings, StreamToStdout(3)) == expected
        assert capsys.readouterr() == (f"{expected}\n", "")
        assert in_thread(chat, "The girl", settings) == expected
        assert in_thread(chat, "The girl", settings, callback_interval=7, timeout=60) == expected
        assert chat.results[0].token_ids == ids

    def test_characters_come_whole(self, load: Loader) -> None:
        """Each byte is a token here; the model writes letters of two and three bytes."""
        chat = load(max_gen_len=400)
        settings = GenerationConfig(temperature=0.7, top_p=1, seed=1)
        shown: list[str] = []
        text = chat.generate("The", settings, lambda message, _: shown.append(message))
        assert isinstance(text, str)
        raw = bytes(token - 3 for token in chat.results[0].token_ids if token >= 3)
        assert text == raw.decode("utf-8", "replace")
        assert {len(letter.encode()) for letter in text} == {1, 2, 3}
        assert all(text.startswith(message) for message in shown)
        assert "".join(chat.stream("The", settings)) == text

    def test_nothing_is_written_without_a_callback(
        self, chat: ChatModule, capfd: pytest.CaptureFixture[str]
    ) -> None:
        chat.generate("Hello")
        assert capfd.readouterr() == ("", "")

    def test_empty_deltas_do_not_end_a_stream(self, load: Loader) -> None:
        """A stop string that nearly comes holds back many tokens, and empty text is no end."""
        chat = load()
        settings = GenerationConfig(max_gen_len=60)
        whole = chat.generate("The girl", settings)
        assert isinstance(whole, str)
        held = GenerationConfig(max_gen_len=60, stop=whole[5:40] + "Q")
        calls: list[str] = []
        assert chat.generate("The girl", held, lambda text, _: calls.append(text)) == whole
        assert len(calls) < 40
        assert "".join(chat.stream("The girl", held)) == whole
        assert in_thread(chat, "The girl", held, callback_interval=1) == whole

    def test_a_callback_interval(self, load: Loader) -> None:
        class Count(DeltaCallback):
            deltas: list[str]

            def delta_callback(self, delta_message: str) -> None:
                self.deltas.append(delta_message)

            def stopped_callback(self) -> None:
                self.deltas.append("END")

        chat = load(max_gen_len=24)
        for interval, least in ((1, 15), (8, 3), (100, 1)):
            callback = Count(interval)
            callback.deltas = []
            answer = chat.generate("The girl", progress_callback=callback)
            assert "".join(callback.deltas) == f"{answer}END"
            assert least <= len(callback.deltas) - 1 <= 24 // interval + 1


class TestChunks:
    def test_are_strings_that_say_more(self, load: Loader) -> None:
        chat = load()
        settings = GenerationConfig(max_gen_len=40, temperature=0.8, seed=2, logprobs=2)
        chunks = list(chat.stream("The girl", settings))
        (result,) = chat.results
        assert all(isinstance(chunk, StreamChunk) and isinstance(chunk, str) for chunk in chunks)
        assert "".join(chunks) == result.text
        assert tuple(itertools.chain(*(chunk.token_ids for chunk in chunks))) == result.token_ids
        recorded = [chunk.logprobs for chunk in chunks if chunk.logprobs is not None]
        assert tuple(itertools.chain(*recorded)) == result.logprobs
        assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert chunks[-1].finish_reason == result.finish_reason == "length"
        assert "" not in chunks[:-1]

    def test_have_no_logprobs_unless_asked(self, load: Loader) -> None:
        chat = load()
        assert {chunk.logprobs for chunk in chat.stream("The girl")} == {None}
        assert chat.results[0].logprobs is None

    def test_the_turn_is_in_the_history_with_the_last_chunk(self, chat: ChatModule) -> None:
        """Whoever breaks off there, as many do, has the whole turn."""
        for chunk in chat.stream("Hello"):
            if chunk.finish_reason is not None:
                break
        assert [message.role for message in chat.messages] == ["user", "assistant"]

    def test_can_be_copied_and_shown(self) -> None:
        chunk = StreamChunk("a", (1, 2), None, "stop")
        for other in (copy.copy(chunk), copy.deepcopy(chunk), pickle.loads(pickle.dumps(chunk))):
            assert other == "a"
            assert (other.token_ids, other.finish_reason) == ((1, 2), "stop")
        assert repr(chunk) == "StreamChunk('a', token_ids=(1, 2), finish_reason='stop')"
        assert str(chunk) == f"{chunk}" == "a"


class TestOneSideFails:
    def test_a_closed_stream_leaves_the_history(self, told: ChatModule) -> None:
        before = told.messages
        stream = told.stream("And then?")
        next(stream)
        with raises("chat-busy", error=GenerationError):
            told.generate("Too early")
        stream.close()
        assert told.messages == before
        assert told.generate("And then?")
        assert len(told.messages) == 4

    def test_a_dropped_stream_gives_its_turn_back(self, chat: ChatModule) -> None:
        stream = chat.stream("Hello")
        next(stream)
        del stream
        gc.collect()
        assert chat.generate("Hello")

    def test_an_exception_in_the_loop_over_a_stream(self, told: ChatModule) -> None:
        before = told.messages

        def reader() -> None:
            for _ in told.stream("And then?"):
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            reader()
        gc.collect()
        assert told.messages == before
        assert told.generate("And then?")

    @pytest.mark.parametrize("when", [False, True])
    def test_an_exception_in_a_callback(self, told: ChatModule, when: bool) -> None:
        before = told.messages

        def callback(message: str, stopped: bool) -> None:
            if stopped is when:
                raise RuntimeError("enough")

        with pytest.raises(RuntimeError, match="enough"):
            told.generate("And then?", progress_callback=callback)
        assert told.messages == before
        assert told.generate("And then?")

    def test_a_callback_may_not_ask_the_same_chat(self, chat: ChatModule) -> None:
        def callback(message: str, stopped: bool) -> None:
            chat.generate("nested")

        with raises("chat-busy", error=GenerationError):
            chat.generate("Hello", progress_callback=callback)
        assert chat.generate("Hello")

    @pytest.mark.parametrize("steps", [0, 5])
    def test_an_error_in_the_engine(
        self, told: ChatModule, monkeypatch: pytest.MonkeyPatch, steps: int
    ) -> None:
        """It reaches who waits for the answer, however he does, and leaves the history."""
        before, decode = told.messages, told._chat.model.functions.decode
        count = 0

        def fail(runs: Any) -> Any:
            nonlocal count
            count += 1
            if count > steps:
                count = 0
                raise GenerationError("the device is lost")
            return decode(runs)

        monkeypatch.setattr(told._chat.model.functions, "decode", fail)
        for call in (
            lambda: told.generate("And then?"),
            lambda: list(told.stream("And then?")),
            lambda: self.read(told, "And then?"),
        ):
            with raises("generation-failed", "the device is lost"):
                call()
            assert told.messages == before
        monkeypatch.undo()
        assert told.generate("And then?")

    def test_an_error_reaches_the_reader(self, chat: ChatModule) -> None:
        with pytest.raises(PromptTooLongError):
            self.read(chat, "no " * 600)
        assert chat.messages == ()

    @staticmethod
    def read(chat: ChatModule, prompt: str) -> None:
        """Read the answer from this thread; the generating one must have got the error as well."""
        stream, raised = StreamIterator(), []

        def generate() -> None:
            try:
                chat.generate(prompt, progress_callback=stream)
            except GenerationError as error:
                raised.append(error)
            except PromptTooLongError as error:
                raised.append(error)

        thread = threading.Thread(target=generate)
        thread.start()
        try:
            list(stream)
        finally:
            thread.join()
            assert len(raised) == 1

    def test_a_reader_that_stops_stops_the_generation(self, load: Loader) -> None:
        chat = load(conv_template=CHAT, max_gen_len=400)
        stream = StreamIterator(callback_interval=1)
        answers: list[Any] = []
        thread = threading.Thread(
            target=lambda: answers.append(chat.generate("Hello", None, stream))
        )
        thread.start()
        first = next(stream)
        stream.close()
        thread.join()
        assert answers[0].startswith(first)
        assert list(stream) == []
        assert chat.messages == ()
        assert chat.generate("Hello", GenerationConfig(max_gen_len=2))

    def test_a_reader_with_a_timeout(self, chat: ChatModule) -> None:
        """Another thread holds the chat, so that no text comes; then it does."""
        holder = chat.stream("Hello")
        next(holder)
        stream = StreamIterator(timeout=0.05)
        thread = threading.Thread(target=chat.generate, args=("Hi", None, stream))
        thread.start()
        with pytest.raises(TimeoutError, match=r"No text came within 0\.05 seconds"):
            next(stream)
        holder.close()
        stream.timeout = 60
        assert "".join(stream) == chat.messages[-1].content
        thread.join()


class TestThreads:
    def test_ten_threads_are_served_in_order(self, load: Loader) -> None:
        """Each gets its own text, and the history is that of the order in which they came."""
        chat = load(conv_template=CHAT, max_gen_len=6, context_window_size=2048)
        expected = self.alone(load)
        answers: dict[int, Any] = {}
        holder = chat.stream("Hello")
        next(holder)

        def ask(number: int) -> None:
            answers[number] = chat.generate(f"Number {number}")

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(10)]
        for waiting, thread in enumerate(threads, start=2):
            thread.start()
            while len(chat._lock._waiting) < waiting:
                thread.join(0.001)
        holder.close()
        for thread in threads:
            thread.join()
        assert [answers[number] for number in range(10)] == expected
        assert [m.content for m in chat.messages[::2]] == [f"Number {n}" for n in range(10)]
        assert [m.content for m in chat.messages[1::2]] == expected

    @staticmethod
    def alone(load: Loader) -> list[Any]:
        chat = load(conv_template=CHAT, max_gen_len=6, context_window_size=2048)
        return [chat.generate(f"Number {number}") for number in range(10)]

    def test_ten_streams_never_mix(self, load: Loader) -> None:
        chat = load(max_gen_len=30)
        prompts = [f"{number} girls" for number in range(10)]
        expected = {prompt: chat.generate(prompt) for prompt in prompts}
        read: dict[str, str] = {}

        def take(prompt: str) -> Callable[[], None]:
            return lambda: read.__setitem__(prompt, "".join(chat.stream(prompt)))

        threads = [threading.Thread(target=take(prompt)) for prompt in prompts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert read == expected

    def test_a_stream_may_change_threads(self, told: ChatModule) -> None:
        stream = told.stream("And then?")
        parts = [next(stream)]
        thread = threading.Thread(target=lambda: parts.extend(stream))
        thread.start()
        thread.join()
        assert told.messages[-1].content == "".join(parts)
