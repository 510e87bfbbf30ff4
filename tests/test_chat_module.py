"""``ChatModule`` from end to end, on trained models and the CPU."""

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlc_llm import ChatConfig, ChatModule, ConvConfig, GenerationConfig
from mlc_llm.callback import StreamIterator, StreamToStdout
from mlc_llm.errors import (
    ConfigError,
    DeviceError,
    GenerationError,
    LibraryError,
    ModelNotFoundError,
    PromptTooLongError,
    TemplateError,
    TokenizerError,
)

GREEDY = ChatConfig(temperature=0.0)

CHAT = {
    "name": "plain",
    "system_template": "{system_message}\n",
    "system_message": "Tell a story.",
    "system_prefix_token_ids": [1],
    "roles": {"user": "Tom", "assistant": "Lily"},
    "role_content_sep": " said: ",
    "role_empty_sep": " said:",
    "seps": ["\n"],
}
"""A template with memory whose prompts are short enough for a window of 512 tokens."""


@pytest.fixture(scope="module")
def folder(stories260k: Path, make_model: Any) -> Path:
    return make_model(stories260k, "q0f32")


@pytest.fixture(scope="module")
def library(folder: Path, make_library: Any) -> str:
    return str(make_library(folder))


@pytest.fixture
def load(folder: Path, library: str) -> Iterator[Callable[..., ChatModule]]:
    """Load the trained model with any fields of ``ChatConfig``; greedy, unless told otherwise."""
    opened: list[ChatModule] = []

    def make(**config: Any) -> ChatModule:
        settings = ChatConfig(**{"temperature": 0.0, "max_gen_len": 24, **config})
        opened.append(ChatModule(str(folder), "cpu", settings, library))
        return opened[-1]

    yield make
    for chat in opened:
        chat.close()


@pytest.fixture
def chat(load: Callable[..., ChatModule]) -> ChatModule:
    """A greedy chat with memory."""
    return load(conv_template=CHAT)


def state(chat: ChatModule) -> object:
    """What must be as it was before a call that failed."""
    return chat.messages


class TestAgainstTransformers:
    @pytest.mark.parametrize("name", ["stories260k", "babyllama"])
    def test_raw_text_continues_the_same(
        self, request: pytest.FixtureRequest, make_model: Any, make_library: Any, name: str
    ) -> None:
        """200 greedy tokens as text, with the LM template; SentencePiece itself decodes."""
        checkpoint: Path = request.getfixturevalue(name)
        folder = make_model(checkpoint, "q0f32")
        with ChatModule(str(folder), "cpu", GREEDY, str(make_library(folder))) as chat:
            for prompt in ("Once upon a time", "Lily likes cats. One day", "The sun"):
                expected = continuation(checkpoint, prompt, 200)
                assert chat.generate(prompt, GenerationConfig(max_gen_len=200)) == expected


def continuation(checkpoint: Path, prompt: str, count: int) -> str:
    """The text that transformers writes after the prompt."""
    torch = pytest.importorskip("torch")
    import sentencepiece

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers")
        transformers.utils.logging.disable_progress_bar()
        # Threads that wait for each other's tiny kernels take a hundred times as long.
        torch.set_num_threads(1)
        model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    pieces = sentencepiece.SentencePieceProcessor(str(checkpoint / "tokenizer.model"))
    ids = [1, *pieces.encode(prompt)]
    answer = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids)),
        do_sample=False,
        max_new_tokens=count,
        pad_token_id=0,
    )[0].tolist()
    # Like transformers, and unlike SentencePiece, we give special tokens such as <unk> no text.
    whole: str = pieces.decode([token for token in answer if token != pieces.unk_id()])
    start: str = pieces.decode(ids)
    assert whole.startswith(start)
    return whole[len(start) :]


class TestHistory:
    def test_a_turn_prefills_only_what_is_new(self, chat: ChatModule) -> None:
        chat.generate("Once upon a time")
        held, prefilled = len(chat._chat.model.tokens), chat.metrics.prefill.tokens
        assert prefilled == held - 23  # 24 tokens of answer, the last of which is not fed
        chat.generate("What did she do?")
        prompt = len(chat._chat.model.tokens) - 23
        assert chat.metrics.prefill.tokens - prefilled == prompt - held

    def test_turns_are_kept(self, chat: ChatModule) -> None:
        first = chat.generate("Once upon a time")
        second = chat.generate("What did she do?")
        roles = [(message.role, message.content) for message in chat.messages]
        assert roles == [
            ("user", "Once upon a time"),
            ("assistant", first),
            ("user", "What did she do?"),
            ("assistant", second),
        ]
        chat.reset_chat()
        assert chat.messages == ()
        assert chat.generate("Once upon a time") == first

    def test_reused_and_fresh_caches_give_the_same(
        self, load: Callable[..., ChatModule], chat: ChatModule
    ) -> None:
        chat.generate("Once upon a time")
        second = chat.generate("What did she do?")
        fresh = load(conv_template=CHAT)
        assert fresh.generate(list(chat.messages[:3])) == second
        assert fresh.messages == chat.messages

    def test_a_list_of_messages_replaces_the_history(self, chat: ChatModule) -> None:
        chat.generate("Something else")
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": "Bye"},
        ]
        answer = chat.generate(messages)
        assert [message.content for message in chat.messages] == [
            "Be brief.",
            "Hello",
            "Hi",
            "Bye",
            answer,
        ]

    def test_stateless_leaves_no_history(self, chat: ChatModule) -> None:
        expected = chat.generate("Hello")
        assert chat.generate("Hello", stateless=True) == expected
        assert chat.messages == ()

    def test_lm_has_no_memory(self, load: Callable[..., ChatModule]) -> None:
        chat = load()
        assert chat.generate("Once upon") == chat.generate("Once upon")
        assert chat.messages == ()

    def test_n_answers_start_from_the_same_history(self, chat: ChatModule) -> None:
        chat.generate("Hello")
        settings = GenerationConfig(n=3, temperature=1.0, seed=5, max_gen_len=12)
        before, texts = chat.messages, []
        answers = chat.generate("And then?", settings, lambda text, stopped: texts.append(text))
        assert isinstance(answers, list)
        assert len(answers) == 3
        assert len(set(answers)) > 1
        assert texts[-1] == answers[0]  # the callback sees the first answer only
        assert [m.content for m in chat.messages[len(before) :]] == ["And then?", answers[0]]
        chat.reset_chat()
        chat.generate("Hello")
        assert chat.generate("And then?", settings) == answers
        one = GenerationConfig(n=1, max_gen_len=3)
        assert isinstance(chat.generate("x", one), list)

    def test_old_turns_are_dropped(
        self, load: Callable[..., ChatModule], caplog: pytest.LogCaptureFixture
    ) -> None:
        chat = load(conv_template=CHAT, context_window_size=128, mean_gen_len=24)
        with caplog.at_level(logging.INFO, "mlc_llm"):
            for number in range(8):
                chat.generate(f"Tell me story {number}.")
        assert "oldest" in caplog.text
        assert chat.messages[0].role == "user"
        assert chat.messages[0].content != "Tell me story 0."
        assert chat.messages[-2].content == "Tell me story 7."
        system = chat._chat.tokenizer.encode("Tell a story.")
        assert list(chat._chat.model.tokens[1 : 1 + len(system)]) == system

    def test_a_prompt_longer_than_the_window(self, chat: ChatModule) -> None:
        chat.generate("Hello")
        before = state(chat)
        with pytest.raises(PromptTooLongError, match=r"has \d{4} tokens.*holds 512"):
            chat.generate("no " * 600)
        assert state(chat) == before
        assert chat.generate("And then?")

    def test_the_window_ends_an_answer(self, load: Callable[..., ChatModule]) -> None:
        chat = load(context_window_size=64, max_gen_len=500)
        text = chat.generate("Once upon a time")
        assert len(chat._chat.model.tokens) == 64
        assert text.strip()


class TestStreams:
    def test_text_is_the_same_however_it_is_taken(
        self, load: Callable[..., ChatModule], capsys: pytest.CaptureFixture[str]
    ) -> None:
        chat = load()
        for settings in (GenerationConfig(), GenerationConfig(temperature=1.0, seed=3)):
            expected = chat.generate("Once upon a time", settings)
            assert "".join(chat.stream("Once upon a time", settings)) == expected
            assert chat.generate("Once upon a time", settings, StreamToStdout(3)) == expected
            assert capsys.readouterr() == (expected + "\n", "")
            assert "".join(self.read(chat, "Once upon a time", settings)) == expected

    @staticmethod
    def read(chat: ChatModule, prompt: str, settings: GenerationConfig) -> list[str]:
        stream = StreamIterator(callback_interval=2)
        thread = threading.Thread(
            target=chat.generate,
            kwargs={
                "prompt": prompt,
                "generation_config": settings,
                "progress_callback": stream,
            },
        )
        thread.start()
        parts = list(stream)
        thread.join()
        return parts

    def test_nothing_is_written_without_a_callback(
        self, chat: ChatModule, capfd: pytest.CaptureFixture[str]
    ) -> None:
        chat.generate("Hello")
        assert capfd.readouterr() == ("", "")

    def test_stop_strings_end_the_answer(self, load: Callable[..., ChatModule]) -> None:
        chat = load(max_gen_len=60)
        whole = chat.generate("Once upon a time")
        cut = chat.generate("Once upon a time", GenerationConfig(stop="girl"))
        assert "girl" in whole
        assert cut == whole[: whole.index("girl")]
        assert "".join(chat.stream("Once upon a time", GenerationConfig(stop=["girl"]))) == cut

    def test_a_stop_string_in_the_middle_of_a_token_keeps_the_history_right(
        self, chat: ChatModule
    ) -> None:
        text = chat.generate("Once", GenerationConfig(max_gen_len=20))
        stop = text[10:13]
        chat.reset_chat()
        answer = chat.generate("Once", GenerationConfig(max_gen_len=20, stop=stop))
        assert answer == text[: text.index(stop)]
        assert chat.messages[-1].content == answer
        assert chat.generate("Go on")

    def test_a_closed_stream_leaves_the_history(self, chat: ChatModule) -> None:
        chat.generate("Hello")
        before = state(chat)
        stream = chat.stream("And then?")
        next(stream)
        with pytest.raises(GenerationError, match="stream that is still open"):
            chat.generate("Too early")
        stream.close()
        assert state(chat) == before
        assert chat.generate("And then?")
        assert len(chat.messages) == 4

    def test_a_dropped_stream_gives_its_turn_back(self, chat: ChatModule) -> None:
        stream = chat.stream("Hello")
        next(stream)
        del stream
        gc.collect()
        assert chat.generate("Hello")

    def test_an_exception_in_a_callback(self, chat: ChatModule) -> None:
        chat.generate("Hello")
        before, expected = state(chat), "enough"
        for when in (False, True):

            def callback(message: str, stopped: bool, when: bool = when) -> None:
                if stopped is when:
                    raise RuntimeError(expected)

            with pytest.raises(RuntimeError, match=expected):
                chat.generate("And then?", progress_callback=callback)
            assert state(chat) == before
        assert chat.generate("And then?")

    def test_a_callback_may_not_ask_the_same_chat(self, chat: ChatModule) -> None:
        def callback(message: str, stopped: bool) -> None:
            chat.generate("nested")

        with pytest.raises(GenerationError, match="middle of another call"):
            chat.generate("Hello", progress_callback=callback)
        assert chat.generate("Hello")

    def test_an_error_reaches_the_reader(self, chat: ChatModule) -> None:
        stream = StreamIterator()
        raised: list[BaseException] = []

        def generate() -> None:
            try:
                chat.generate("no " * 600, progress_callback=stream)
            except PromptTooLongError as error:
                raised.append(error)

        thread = threading.Thread(target=generate)
        thread.start()
        with pytest.raises(PromptTooLongError):
            list(stream)
        thread.join()
        assert len(raised) == 1

    def test_a_reader_that_stops_stops_the_generation(
        self, load: Callable[..., ChatModule]
    ) -> None:
        chat = load(conv_template=CHAT, max_gen_len=300)
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
        assert chat.messages == ()

    def test_ten_threads(self, load: Callable[..., ChatModule]) -> None:
        chat = load(conv_template=CHAT, max_gen_len=4)
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda: answers.append(chat.generate("Hi"))) for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 10
        assert [m.content for m in chat.messages[1::2]] == answers

    @pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
    def test_ctrl_c(self, chat: ChatModule) -> None:
        chat.generate("Hello")
        before = state(chat)

        def callback(message: str, stopped: bool) -> None:
            os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            chat.generate("And then?", progress_callback=callback)
        assert state(chat) == before
        assert chat.generate("And then?")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_ctrl_c_in_a_program(folder: Path, library: str) -> None:
    """The signal comes from outside, in the middle of a generation without a callback."""
    program = f"""
import sys, threading
from mlc_llm import ChatConfig, ChatModule
chat = ChatModule({str(folder)!r}, "cpu", ChatConfig(max_gen_len=20, conv_template={CHAT!r}),
                  {library!r})
engine_decode, count = chat._chat.model.decode, 0
def decode(token):
    global count
    count += 1
    if count == 3:
        print("generating", flush=True)
        threading.Event().wait(1)
    return engine_decode(token)
chat._chat.model.decode = decode
try:
    chat.generate("Once upon a time")
except KeyboardInterrupt:
    print("interrupted", len(chat.messages))
print(bool(chat.generate("Once upon a time")), len(chat.messages))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TVM_USE_RUNTIME_LIB": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "generating\n"
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert (out, errors) == ("interrupted 0\nTrue 2\n", "")
    assert process.returncode == 0


class TestConfiguration:
    def test_public_attributes(self, folder: Path, library: str, chat: ChatModule) -> None:
        assert chat.model_path == str(folder)
        assert chat.model_lib == library
        assert chat.device == "cpu:0"
        assert isinstance(chat.chat_config, ChatConfig)
        assert chat.chat_config.max_gen_len == 24
        assert chat.chat_config.context_window_size == 512
        assert repr(chat) == f"ChatModule({str(folder)!r}, device='cpu:0')"

    def test_what_is_used_is_logged(
        self, folder: Path, library: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with (
            caplog.at_level(logging.INFO, "mlc_llm"),
            ChatModule(str(folder), model_lib=library) as chat,
        ):
            assert chat.device == "cpu:0"  # auto is what the library was built for
        messages = [record.getMessage() for record in caplog.records]
        assert f"Using model folder: {folder}" in messages
        assert f"Using mlc chat config: {folder / 'mlc-chat-config.json'}" in messages
        assert f"Using library model: {library}" in messages

    def test_the_users_objects_are_not_changed(self, load: Callable[..., ChatModule]) -> None:
        conv = ConvConfig(system_message="Be brief.")
        config = ChatConfig(conv_template=CHAT, conv_config=conv, max_gen_len=3)
        before = config.model_copy(deep=True)
        chat = load(**config.overrides())
        chat.reset_chat(config)
        chat.generate("Hello", GenerationConfig(max_gen_len=2))
        assert config == before
        assert config.model_fields_set == before.model_fields_set

    def test_reset_chat_lays_over_the_models_own(self, load: Callable[..., ChatModule]) -> None:
        chat = load(conv_template=CHAT, max_gen_len=5, context_window_size=100)
        chat.generate("Hello")
        chat.reset_chat(ChatConfig(conv_config=ConvConfig(stop_tokens=[7])))
        assert chat.messages == ()
        assert chat.metrics.decode.tokens == 0
        assert chat.chat_config.max_gen_len == 512  # the model's own again
        assert chat.chat_config.context_window_size == 100  # settled at load
        assert chat.chat_config.conv_template != CHAT
        chat.reset_chat(ChatConfig(conv_template=CHAT, max_gen_len=9))
        chat.generate("Hello")
        assert chat.metrics.decode.tokens == 8
        chat.reset_chat(ConvConfig(system_message="Be brief."))
        chat.generate("Hello", GenerationConfig(max_gen_len=2))

    def test_reset_chat_can_change_the_window(self, load: Callable[..., ChatModule]) -> None:
        chat = load(context_window_size=40, max_gen_len=200)
        chat.generate("Once upon a time")
        assert len(chat._chat.model.tokens) == 40
        chat.reset_chat(ChatConfig(context_window_size=70, temperature=0.0))
        chat.generate("Once upon a time", GenerationConfig(max_gen_len=200))
        assert len(chat._chat.model.tokens) == 70
        with pytest.raises(DeviceError, match="needs about"):
            chat.reset_chat(ChatConfig(context_window_size=1 << 40))
        assert chat.chat_config.context_window_size == 70
        assert chat.generate("Once upon a time")

    def test_a_reset_that_fails_changes_nothing(self, chat: ChatModule) -> None:
        chat.generate("Hello")
        before = state(chat)
        for wrong, error in (
            (ChatConfig(conv_template="no such"), TemplateError),
            (ChatConfig(sliding_window_size=8), ConfigError),
            (ChatConfig(model_lib="other.so"), ConfigError),
            (ChatConfig(opt="x=y"), ConfigError),
        ):
            with pytest.raises(error):
                chat.reset_chat(wrong)
            assert state(chat) == before

    def test_a_generation_overrides_the_chat(self, chat: ChatModule) -> None:
        chat.generate("Hello", GenerationConfig(max_gen_len=3))
        assert chat.metrics.decode.tokens == 2
        with pytest.raises(ConfigError, match="stream gives one answer"):
            chat.stream("Hello", GenerationConfig(n=2))

    @pytest.mark.parametrize("prompt", [None, 5, b"bytes", [], [{"role": "user"}], [1], {"a": 1}])
    def test_malformed_prompts(self, chat: ChatModule, prompt: Any) -> None:
        before = state(chat)
        with pytest.raises(ConfigError):
            chat.generate(prompt)
        assert state(chat) == before

    def test_half_a_character(self, chat: ChatModule) -> None:
        with pytest.raises(TokenizerError, match="surrogate"):
            chat.generate("\ud800")
        assert chat.messages == ()

    def test_a_wrong_chat_config(self, folder: Path, library: str) -> None:
        with pytest.raises(ConfigError, match="is to be a ChatConfig"):
            ChatModule(str(folder), "cpu", {"temperature": 0}, library)  # type: ignore[arg-type]

    def test_wrong_settings(self, chat: ChatModule) -> None:
        wrong: Any = {"temperature": 0}
        for call in (
            lambda: chat.generate("Hello", wrong),
            lambda: chat.stream("Hello", wrong),
            lambda: chat.generate("Hello", GenerationConfig(logprobs=2)),
            lambda: chat.generate("Hello", GenerationConfig(logit_bias={512: 1.0})),
            lambda: chat.generate("Hello", GenerationConfig(stop="")),
            lambda: chat.reset_chat(wrong),
        ):
            with pytest.raises(ConfigError):
                call()
        assert chat.messages == ()

    def test_things_that_are_not_there(self, folder: Path, library: str, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFoundError):
            ChatModule(str(tmp_path / "none"))
        with pytest.raises(LibraryError, match="no such file"):
            ChatModule(str(folder), model_lib=str(tmp_path / "none.so"))
        with pytest.raises(TemplateError, match="LM"):
            ChatModule(str(folder), "cpu", ChatConfig(conv_template="L M"), library)

    def test_a_library_for_another_window(self, folder: Path, library: str) -> None:
        with pytest.raises(LibraryError, match="sliding_window_size"):
            ChatModule(str(folder), "cpu", ChatConfig(sliding_window_size=64), library)


class TestMeasuring:
    def test_stats(self, chat: ChatModule) -> None:
        assert chat.stats() == "prefill: 0.0 tok/s, decode: 0.0 tok/s"
        chat.generate("Hello")
        assert re.fullmatch(r"prefill: \d+\.\d tok/s, decode: \d+\.\d tok/s", chat.stats())
        first, second = chat.stats(verbose=True).splitlines()
        assert re.fullmatch(r"prefill: \d+\.\d tok/s, \d+ tokens, \d+\.\d{3} s", first)
        assert re.fullmatch(r"decode: \d+\.\d tok/s, 23 tokens, \d+\.\d{3} s", second)

    def test_benchmark_writes_exactly_so_many_tokens(self, chat: ChatModule) -> None:
        chat.generate("Hello")
        before = state(chat)
        text = chat.benchmark_generate("Once upon a time", 40)
        assert text.strip()
        assert chat.metrics.decode.tokens == 39
        assert chat.metrics.prefill.tokens == len(chat._chat.model.tokens) - 39
        assert state(chat) == before
        assert chat.generate("And then?")
        with pytest.raises(PromptTooLongError, match="do not fit into the context window of 512"):
            chat.benchmark_generate("Once upon a time", 600)
        for length in (0, -1, 1.5):
            with pytest.raises(ConfigError, match="generate_length"):
                chat.benchmark_generate("Once", length)  # type: ignore[arg-type]

    def test_embeddings(self, chat: ChatModule, stories260k: Path) -> None:
        from safetensors.numpy import load_file

        table = load_file(stories260k / "model.safetensors")["model.embed_tokens.weight"]
        ids = chat._chat.tokenizer.encode("Hello world")
        np.testing.assert_array_equal(chat.embed_text("Hello world"), table[ids])
        with pytest.raises(ConfigError, match="empty"):
            chat.embed_text("")


class TestEnding:
    def test_a_closed_chat_says_so(self, load: Callable[..., ChatModule]) -> None:
        chat = load()
        with chat as same:
            assert same is chat
            chat.generate("Hello")
        chat.close()
        assert "closed" in repr(chat)
        for call in (
            lambda: chat.generate("Hello"),
            lambda: list(chat.stream("Hello")),
            lambda: chat.embed_text("Hello"),
            lambda: chat.reset_chat(),
            lambda: chat.benchmark_generate("Hello", 3),
        ):
            with pytest.raises(GenerationError, match="closed"):
                call()

    def test_closing_stops_what_runs(self, load: Callable[..., ChatModule]) -> None:
        chat = load(max_gen_len=400)
        stream = chat.stream("Once upon a time")
        next(stream)
        chat.close()
        with pytest.raises(GenerationError, match="closed"):
            for _ in stream:
                pass

    def test_a_dropped_chat_ends_its_thread(self, folder: Path, library: str) -> None:
        chat = ChatModule(str(folder), "cpu", GREEDY, library)
        chat.generate("Hello", GenerationConfig(max_gen_len=2))
        engine, model = chat._chat.engine, weakref.ref(chat._chat.model)
        del chat
        gc.collect()
        assert not engine.alive
        assert model() is None


class TestHooks:
    def test_providers_are_told(
        self, folder: Path, library: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from mlc_llm.plugin.registry import Registry

        told: list[tuple[str, dict[str, Any]]] = []
        monkeypatch.setattr(
            Registry, "notify", lambda self, hook, **arguments: told.append((hook, arguments))
        )
        with ChatModule(str(folder), "cpu", GREEDY, library) as chat:
            answer = chat.generate("Hello", GenerationConfig(max_gen_len=2))
            list(chat.stream("Hello", GenerationConfig(max_gen_len=2)))
        hooks = [hook.removeprefix("mlc_llm_chat_") for hook, _ in told]
        assert hooks == ["loaded", "generated", "generated", "closed"]
        assert all(arguments["chat"] is chat for _, arguments in told)
        assert told[1][1]["prompt"] == "Hello"
        assert told[1][1]["output"] == answer
