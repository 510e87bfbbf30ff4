"""Saving a conversation with its keys and values, and going on with it elsewhere."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from mlc_llm import ChatConfig, ChatModule, GenerationConfig, RestoredChat, SavedChat
from mlc_llm.errors import ConfigError, GenerationError, SavedChatError, TemplateError
from mlc_llm.testing import raises
from mlc_llm.testing.model_folder import FIRST_BYTE

from .conftest import CHAT, Loader, held

GREEDY = GenerationConfig(temperature=0)
READ_AGAIN = "The conversation is read again at the next turn: "


@pytest.fixture(scope="module")
def open_demo() -> Iterator[Any]:
    """Open the demo; all are closed at the end."""
    opened: list[ChatModule] = []

    def make() -> ChatModule:
        opened.append(ChatModule("demo", "cpu"))
        return opened[-1]

    yield make
    for chat in opened:
        chat.close()


@pytest.fixture(scope="module")
def saved(open_demo: Any, tmp_path_factory: Any) -> tuple[Path, SavedChat, ChatModule]:
    """A conversation of two turns: where it is, what saving it gave, and the chat."""
    chat, path = open_demo(), tmp_path_factory.mktemp("saved") / "conversation.json"
    chat.generate("Hello", GREEDY)
    chat.generate("Name three colours.", GREEDY)
    return path, chat.save(path), chat


@pytest.fixture(scope="module")
def unbroken(saved: Any) -> tuple[str, int, int]:
    """The next answer without any saving, and what its prompt cost."""
    return next_answer(saved[2])


def next_answer(chat: ChatModule) -> tuple[str, int, int]:
    """The answer, how many tokens were prefilled for it, and how many its prompt has."""
    answer = chat.generate("Thank you.", GREEDY)
    result = chat.results[0]
    return str(answer), result.prefilled_tokens, result.prompt_tokens


class TestTheDemo:
    """A new process, as far as one test can be one, goes on as if nothing had happened."""

    @pytest.fixture
    def copy(self, saved: Any, tmp_path: Path) -> Path:
        for suffix in ("", ".kv"):
            shutil.copy(f"{saved[0]}{suffix}", tmp_path / f"copy.json{suffix}")
        return tmp_path / "copy.json"

    def test_what_is_saved(self, saved: Any) -> None:
        path, result, chat = saved
        kv = path.with_name("conversation.json.kv")
        assert sorted(path.parent.iterdir()) == [path, kv]
        with safe_open(kv, "np") as file:
            assert result == SavedChat(
                4, len(file.get_tensor("tokens")), str(kv), kv.stat().st_size
            )
            assert file.metadata()["model"] == "demo"
        data = json.loads(path.read_text(encoding="utf-8"))
        assert (data["version"], data["model"]) == (2, "demo")
        roles = [message["role"] for message in data["messages"]]
        assert roles == ["system", "user", "assistant", "user", "assistant"]
        assert data["messages"][0]["content"] == chat.system_message
        for message, told in zip(data["messages"][1:], chat.messages[:4], strict=True):
            assert message["content"] == told.content
            assert message.get("token_ids") == (told.token_ids and [*told.token_ids])

    def test_the_next_answer_is_the_same_and_comes_quickly(
        self, unbroken: Any, copy: Path, open_demo: Any
    ) -> None:
        chat = open_demo()
        restored = chat.load(copy)
        tokens = len(held(chat))
        assert restored == RestoredChat(4, tokens, restored.prompt_tokens)
        assert tokens < restored.prompt_tokens < tokens + 15
        assert next_answer(chat) == unbroken
        assert unbroken[1] < unbroken[2] / 3  # of the prompt, so much was not in the cache

    @pytest.mark.parametrize(
        ("harm", "level", "reason"),
        [
            (lambda kv: kv.unlink(), logging.INFO, "there is no file "),
            (lambda kv: kv.write_bytes(b"x"), logging.WARNING, "does not hold keys and values"),
            (lambda kv: flip(kv, -2000), logging.WARNING, "the checksum of "),
            (lambda kv: os.truncate(kv, 5000), logging.WARNING, "it has 5000 bytes instead of"),
            (lambda kv: rename_weights(kv), logging.WARNING, "model 'other', and this is 'demo'"),
        ],
        ids=["deleted", "another file", "one bit", "cut short", "another model"],
    )
    def test_without_keys_and_values_it_only_takes_longer(
        self,
        unbroken: Any,
        copy: Path,
        open_demo: Any,
        caplog: pytest.LogCaptureFixture,
        harm: Any,
        level: int,
        reason: str,
    ) -> None:
        chat = open_demo()
        harm(copy.with_name("copy.json.kv"))
        with caplog.at_level(logging.INFO, "mlc_llm"):
            restored = chat.load(copy)
        (record,) = caplog.records
        assert record.levelno == level
        assert record.message == READ_AGAIN + restored.reason
        assert reason in restored.reason
        assert (restored.messages, restored.tokens) == (4, 0)
        assert next_answer(chat) == (unbroken[0], unbroken[2], unbroken[2])


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def rename_weights(file: Path) -> None:
    """Make a file of keys and values say that it belongs to the weights of a model 'other'."""
    data = file.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    header["__metadata__"] |= {"model": "other", "weights": "0" * 64}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[begin:])


def messages_of(path: Path) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["messages"]
    return messages


def change(path: Path, messages: Any) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**data, "messages": messages}))


class TestWhatIsSaved:
    def test_nothing_to_save(self, chat: ChatModule, tmp_path: Path) -> None:
        with raises("chat-empty", error=SavedChatError):
            chat.save(tmp_path / "c.json")
        assert list(tmp_path.iterdir()) == []

    def test_other_questions_stay_out_of_the_file(self, told: ChatModule, tmp_path: Path) -> None:
        """The cache holds what others asked, too; only the conversation is saved."""
        history, conversation = told.messages, held(told)
        told.generate("My secret", stateless=True)
        told.messages = history
        saved = told.save(tmp_path / "c.json")
        with safe_open(str(saved.cache_file), "np") as file:
            tokens = file.get_tensor("tokens").tolist()
        assert tokens == list(conversation[: len(tokens)])
        assert len(tokens) == len(conversation)

    def test_without_anything_in_the_cache(self, told: ChatModule, tmp_path: Path) -> None:
        """The file of before goes: it belongs to other messages."""
        path = tmp_path / "c.json"
        assert told.save(path).cache_file == f"{path}.kv"
        told._chat.engine.call(lambda stop: told._chat.model.reset())
        assert told.save(path) == SavedChat(2)
        assert list(tmp_path.iterdir()) == [path]

    def test_other_files_are_not_replaced(self, told: ChatModule, tmp_path: Path) -> None:
        path, kv = tmp_path / "c.json", tmp_path / "c.json.kv"
        for content in (b"", b"mine" * 99):
            kv.write_bytes(content)
            with raises("path-taken", kv, error=SavedChatError):
                told.save(path)
            assert kv.read_bytes() == content
            assert not path.exists()
        kv.unlink()
        kv.mkdir()
        with raises("path-taken", kv):
            told.save(path)
        kv.rmdir()
        path.write_text("mine")
        with raises("path-taken", path):
            told.save(path)
        assert [*tmp_path.iterdir()] == [path]

    def test_a_damaged_one_of_ours_is_replaced(self, told: ChatModule, tmp_path: Path) -> None:
        path, kv = tmp_path / "c.json", tmp_path / "c.json.kv"
        told.save(path)
        whole = kv.read_bytes()
        kv.write_bytes(whole[:500])
        told.save(path)
        assert kv.read_bytes() == whole

    def test_the_messages_are_saved_in_any_case(
        self, told: ChatModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*arguments: Any) -> int:
            raise SavedChatError("The disk is full.")

        monkeypatch.setattr(told._chat.model, "save", fail)
        path = tmp_path / "c.json"
        with raises("cache-unsaved", path, "The disk is full", error=SavedChatError):
            told.save(path)
        assert [message["role"] for message in messages_of(path)] == ["system", "user", "assistant"]
        assert list(tmp_path.iterdir()) == [path]

    def test_links_lead_to_both_files(self, told: ChatModule, load: Loader, tmp_path: Path) -> None:
        link, real = tmp_path / "link.json", tmp_path / "real.json"
        link.symlink_to(real)
        told.save(link)
        assert {entry.name for entry in tmp_path.iterdir()} == {
            "link.json",
            "real.json",
            "real.json.kv",
        }
        for path in (link, real):
            assert load(conv_template=CHAT).load(str(path)).tokens > 0

    def test_saving_what_was_loaded_changes_nothing(
        self, told: ChatModule, load: Loader, tmp_path: Path
    ) -> None:
        files = [tmp_path / "c.json", tmp_path / "c.json.kv"]
        told.save(files[0])
        before = [file.read_bytes() for file in files]
        again = load(conv_template=CHAT)
        again.load(files[0])
        again.save(files[0])
        assert [file.read_bytes() for file in files] == before


class TestWhatIsLoaded:
    @pytest.fixture
    def path(self, told: ChatModule, tmp_path: Path) -> Path:
        told.save(tmp_path / "c.json")
        return tmp_path / "c.json"

    def test_it_takes_the_place_of_the_conversation(
        self, told: ChatModule, load: Loader, path: Path
    ) -> None:
        other = load(conv_template={**CHAT, "system_message": "Be sad."})
        other.generate("Something else")
        other.load(path)
        assert other.system_message == "Tell a story."
        assert other.messages[1:] == told.messages
        assert other.results == ()
        assert other.generate("And then?") == told.generate("And then?")
        assert other.results[0].prefilled_tokens == told.results[0].prefilled_tokens

    def test_only_what_the_messages_begin_with(
        self, told: ChatModule, load: Loader, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An edited message: the keys and values before it are of use, and nothing is said."""
        messages = messages_of(path)
        messages[1]["content"] = "The dog"
        change(path, messages)
        chat = load(conv_template=CHAT)
        with caplog.at_level(logging.INFO, "mlc_llm"):
            restored = chat.load(path)
        assert caplog.records == []
        assert restored.tokens == len("\x01Tell a story.\nTom said: The ")
        assert chat.messages[1].content == "The dog"
        answer = chat.generate("And then?")
        fresh = load(conv_template=CHAT)
        fresh.messages = chat.messages[:3]
        assert fresh.generate("And then?") == answer

    def test_keys_and_values_of_another_conversation(
        self, load: Loader, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        chat = load(conv_template={**CHAT, "system_prefix_token_ids": [2]})
        chat.generate("Hello")
        before = held(chat)
        with caplog.at_level(logging.INFO, "mlc_llm"):
            restored = chat.load(path)
        assert restored.reason == f"{path}.kv belongs to another conversation"
        assert caplog.messages == [READ_AGAIN + restored.reason]
        assert held(chat) == before

    def test_more_than_the_window_holds(
        self, load: Loader, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        chat = load(conv_template=CHAT, context_window_size=32)
        assert "context window holds 32" in chat.load(path).reason

    def test_the_version_before(self, told: ChatModule, load: Loader, path: Path) -> None:
        data = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**data, "version": 1}))
        chat = load(conv_template=CHAT)
        chat.load(path)
        assert [m.content for m in chat.messages[1:]] == [m.content for m in told.messages]
        assert all(message.token_ids is None for message in chat.messages)

    def test_without_messages(self, chat: ChatModule, path: Path) -> None:
        change(path, [])
        assert chat.load(path) == RestoredChat(0)
        assert chat.messages == ()

    def test_another_model_is_named(self, load: Loader, path: Path, folder: Path) -> None:
        chat = load(conv_template=CHAT)
        assert chat.load(path).other_model is None
        data = json.loads(path.read_text(encoding="utf-8"))
        assert data["model"] == folder.name
        path.write_text(json.dumps({**data, "model": "HF://other/model"}))
        assert chat.load(path).other_model == "HF://other/model"

    @pytest.mark.parametrize(
        ("messages", "error"),
        [
            (None, SavedChatError),
            ([{"role": "user"}], SavedChatError),
            ([{"role": "user", "content": "x", "token_ids": ["1"]}], SavedChatError),
            ([{"role": "usr", "content": "x"}], TemplateError),
        ],
    )
    def test_what_does_not_fit_changes_nothing(
        self, told: ChatModule, path: Path, messages: Any, error: type[Exception]
    ) -> None:
        change(path, messages)
        before, tokens = told.messages, held(told)
        with pytest.raises(error):
            told.load(path)
        assert (told.messages, held(told)) == (before, tokens)
        with raises("file-unreadable", "absent.json", error=SavedChatError):
            told.load(path.with_name("absent.json"))
        assert told.messages == before


class TestTokensOfAFile:
    """Anybody may have written them: they count only where they spell what people read."""

    def loaded(self, chat: ChatModule, tmp_path: Path, content: str, ids: Any) -> Any:
        path = tmp_path / "c.json"
        messages = [
            {"role": "user", "content": "The cat"},
            {"role": "assistant", "content": content, "token_ids": ids},
        ]
        path.write_text(json.dumps({"version": 2, "messages": messages}))
        chat.load(path)
        return chat.messages[1].token_ids

    @pytest.mark.parametrize("content", ["Hi", "", "é", "\ufffd"])
    def test_they_are_kept(self, chat: ChatModule, tmp_path: Path, content: str) -> None:
        ids = chat._chat.plan.tokenizer.encode(content)
        assert self.loaded(chat, tmp_path, content, ids) == tuple(ids)

    @pytest.mark.parametrize(
        "ids",
        [
            [FIRST_BYTE + ord("H")],
            [FIRST_BYTE + ord("H"), FIRST_BYTE + ord("o")],
            [*(FIRST_BYTE + byte for byte in b"Hi!")],
            # The end of a text, its begin, and what is beyond the vocabulary have no text.
            [FIRST_BYTE + ord("H"), 2, FIRST_BYTE + ord("i")],
            [1, *(FIRST_BYTE + byte for byte in b"Hi")],
            [*(FIRST_BYTE + byte for byte in b"Hi"), 2],
            [*(FIRST_BYTE + byte for byte in b"Hi"), 100_000],
            [*(FIRST_BYTE + byte for byte in b"Hi"), -1],
            [*(FIRST_BYTE + byte for byte in b"Hi"), 1 << 70],
        ],
    )
    def test_they_are_dropped(self, chat: ChatModule, tmp_path: Path, ids: list[int]) -> None:
        assert self.loaded(chat, tmp_path, "Hi", ids) is None
        chat.generate("And then?")
        assert held(chat).count(1) == 1
        assert 2 not in held(chat)


class TestTheChat:
    def test_without_memory(self, load: Loader, tmp_path: Path) -> None:
        chat = load()  # LM
        chat.generate("The cat")
        with raises("template-without-memory", "'LM'", "save", error=ConfigError):
            chat.save(tmp_path / "c.json")
        with raises("template-without-memory", "'LM'", "set", error=ConfigError):
            chat.load(tmp_path / "c.json")

    def test_closed(self, told: ChatModule, tmp_path: Path) -> None:
        told.save(tmp_path / "c.json")
        told.close()
        for method in (told.save, told.load):
            with raises("chat-closed", error=GenerationError):
                method(tmp_path / "c.json")

    def test_beside_an_open_stream(self, told: ChatModule, tmp_path: Path) -> None:
        """They take their turn, as everything does."""
        stream = told.stream("And then?")
        next(stream)
        for method in (told.save, told.load):
            with raises("chat-busy", error=GenerationError):
                method(tmp_path / "c.json")
        stream.close()
        told.save(tmp_path / "c.json")

    def test_deterministic_models(self, folder: Path, make_library: Any, tmp_path: Path) -> None:
        library = str(make_library(folder, deterministic=True))
        config = ChatConfig(temperature=0.0, max_gen_len=24, conv_template=CHAT, deterministic=True)
        with ChatModule(str(folder), "cpu", config, library) as first:
            first.generate("The cat")
            first.save(tmp_path / "c.json")
            answer, result = first.generate("And then?"), first.results[0]
        with ChatModule(str(folder), "cpu", config, library) as second:
            assert second.load(tmp_path / "c.json").tokens > 0
            assert second.generate("And then?") == answer
            assert second.results[0].prefilled_tokens == result.prefilled_tokens


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "\ud800x" * 100])
def test_a_path_that_none_can_be(told: ChatModule, tmp_path: Path, name: str) -> None:
    before = told.messages
    for act in (told.save, told.load):
        with raises("path-invalid", error=SavedChatError):
            act(tmp_path / name)
    assert told.messages == before
    assert list(tmp_path.iterdir()) == []


def test_a_name_without_room_for_the_second_file(told: ChatModule, tmp_path: Path) -> None:
    """The messages are whole where the name of their keys and values is too long."""
    path = tmp_path / ("x" * 254)
    with raises("file-unreadable", error=SavedChatError):
        told.save(path)
    messages = [{"role": m.role, "content": m.content} for m in told.messages]
    path.write_text(json.dumps({"version": 1, "messages": messages}))
    restored = told.load(path)
    assert (restored.tokens, bool(restored.reason)) == (0, True)
