"""The slash commands on a real chat."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlc_llm import ChatConfig, ChatModule, GenerationConfig
from mlc_llm.cli.chat.commands import OpenChat
from mlc_llm.cli.chat.sampling import SETTINGS
from mlc_llm.cli.chat.session import ChatSession
from mlc_llm.runtime.sequence import prompt_phases

from .conftest import CHAT


class Typist:
    """A chat into which lines are typed, and what they print."""

    def __init__(self, chat: ChatModule, config: ChatConfig, capsys: Any) -> None:
        self.chat = chat
        self._capsys = capsys
        generation = GenerationConfig(temperature=0, max_gen_len=8)
        self._session = ChatSession(OpenChat(chat, Path(chat.model_path).name, config, generation))

    def type(self, *lines: str) -> tuple[int, str, str]:
        """The exit code that the lines give, and what they wrote on stdout and stderr."""
        code = self._session.read_turns(line.encode() for line in lines)
        return (code, *self._capsys.readouterr())

    @property
    def prompt(self) -> str:
        """What the template makes of the conversation."""
        return self.chat._dialogue.conversation.prompt_text()


Open = Callable[..., Typist]


@pytest.fixture
def open_chat(options: Any, capsys: pytest.CaptureFixture[str]) -> Iterator[Open]:
    """Load the talkative model, with any fields of ``ChatConfig``."""
    opened: list[ChatModule] = []

    def load(**fields: Any) -> Typist:
        config = ChatConfig(**fields)
        opened.append(ChatModule(str(options[1]), "cpu", config, str(options[3])))
        return Typist(opened[-1], config, capsys)

    yield load
    for chat in opened:
        chat.close()


@pytest.fixture
def typist(open_chat: Open) -> Typist:
    return open_chat()


@pytest.fixture
def saved(typist: Typist, tmp_path: Path) -> Path:
    """A conversation of the typist with a system message of its own, saved."""
    path = tmp_path / "my conversation.json"
    code, _, err = typist.type("/system Be sad.", "Hello", f"/save {path}")
    size = f"({path.with_name(f'{path.name}.kv').stat().st_size / 1024:.1f} KiB)"
    said = f"Saved 2 messages to {path}, and their keys and values {size} to {path}.kv.\n"
    assert (code, err.endswith(said)) == (0, True), err
    return path


class TestSystem:
    def test_it_is_shown(self, typist: Typist) -> None:
        assert typist.type("/system") == (0, "Tell a story.\n", "")

    def test_a_new_one_begins_a_new_conversation(self, open_chat: Open) -> None:
        typist = open_chat(max_gen_len=5)
        typist.type("Hello")
        code, out, err = typist.type('/system """Be\n  sad."""', "/system")
        assert (code, out) == (0, "Be\n  sad.\n")
        assert "a new conversation begins" in err
        assert typist.chat.messages == ()
        assert typist.chat.chat_config.max_gen_len == 5
        typist.type("/reset", "Hello")
        assert typist.prompt.startswith("Be\n  sad.\nTom: Hello\n")

    def test_an_empty_one(self, open_chat: Open) -> None:
        typist = open_chat(conv_template={**CHAT, "system_message": ""})
        assert typist.type("/system") == (0, "", "There is no system message.\n")


class TestSaveAndLoad:
    def test_the_prompt_is_as_before(self, typist: Typist, saved: Path) -> None:
        before = typist.prompt
        conversation, cache = typist.chat._dialogue.conversation, typist.chat._chat.model.cache
        prompt = conversation.prompt()
        held = cache.count(prompt.ids, prompt_phases(len(prompt.ids), prompt.generated))
        typist.type("/system Be glad.", "Bye")
        code, out, err = typist.type(f"/load '{saved}'", "/system")
        assert (code, out) == (0, "Be sad.\n")
        all_tokens = len(typist.chat._dialogue.conversation.prompt_ids())
        assert err == (
            f"Loaded 2 messages, and the keys and values of {held} of {all_tokens} tokens; the "
            f"next turn reads the other {all_tokens - held}.\n"
        )
        assert typist.prompt == before

    def test_without_keys_and_values(
        self, open_chat: Open, saved: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The log says why, which the terminal shows as well."""
        saved.with_name(f"{saved.name}.kv").unlink()
        typist = open_chat()
        with caplog.at_level("INFO", "mlc_llm"):
            code, _, err = typist.type(f"/load {saved}")
        assert (code, err) == (0, "Loaded 2 messages; the next turn reads all of it again.\n")
        assert [f"there is no file {saved}.kv" in said for said in caplog.messages] == [True]
        assert "to save yet" not in typist.type(f"/save {saved}")[2]
        assert typist.type("And then?")[0] == 0

    def test_the_system_message_outlives_a_reset(self, open_chat: Open, saved: Path) -> None:
        typist = open_chat()
        typist.type(f"/load {saved}", "/reset")
        assert typist.chat.messages == ()
        assert typist.type("/system")[1] == "Be sad.\n"

    @pytest.mark.parametrize("command", ["/save", "/load"])
    @pytest.mark.parametrize(
        "name", ["x" * 5000, "nul\0nul", "x/" * 3000, "/proc/x", "~nobody/x", "/dev/null", "."]
    )
    def test_an_impossible_path_does_not_end_the_chat(
        self, typist: Typist, command: str, name: str
    ) -> None:
        before = typist.chat.messages
        code, _, err = typist.type(f"{command} {name}", "Bye")
        assert code == 1
        assert err.startswith("Error [")
        assert "not expected" not in err
        assert len(typist.chat.messages) == len(before) + 2

    @pytest.mark.skipif(sys.platform == "win32", reason="POSIX's modes")
    def test_what_is_saved_is_for_its_user_alone(self, typist: Typist, tmp_path: Path) -> None:
        path = tmp_path / "mine.json"
        typist.type("Hello", f"/save {path}")
        files = sorted(tmp_path.glob("mine.json*"))
        assert [file.name for file in files] == ["mine.json", "mine.json.kv"]
        assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600]
        for file in files:
            file.chmod(0o644)
        typist.type("And?", f"/save {path}")
        assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600]

    def test_it_is_saved_again_as_it_was(self, open_chat: Open, saved: Path) -> None:
        content = saved.read_bytes()
        assert open_chat().type(f"/load {saved}", f"/save {saved}")[0] == 0
        assert saved.read_bytes() == content

    def test_messages_without_a_system_message(self, typist: Typist, saved: Path) -> None:
        data = json.loads(saved.read_text())
        saved.write_text(json.dumps({**data, "messages": data["messages"][1:]}))
        typist.type("/system Be glad.")
        assert typist.type(f"/load {saved}", "/system")[1] == "Be glad.\n"

    @pytest.mark.parametrize(
        ("messages", "said"),
        [
            (None, "[saved-chat-invalid]"),
            ([{"role": "user", "content": 1}], "[saved-chat-invalid]"),
            ([{"role": "usr", "content": "x"}], "[role-unknown]"),
            ([{"role": "user", "content": "\ud800"}], "[text-invalid]"),
        ],
    )
    def test_what_does_not_fit_changes_nothing(
        self, typist: Typist, saved: Path, messages: Any, said: str
    ) -> None:
        data = json.loads(saved.read_text())
        saved.write_text(json.dumps({**data, "messages": messages}))
        before = typist.chat.messages
        code, out, err = typist.type(f"/load {saved}", "/system")
        assert (code, out) == (1, "Be sad.\n")
        assert said in err
        assert typist.chat.messages == before
        assert typist.type("And then?")[0] == 0

    def test_another_model(self, typist: Typist, saved: Path) -> None:
        data = json.loads(saved.read_text())
        saved.write_text(json.dumps({**data, "model": "HF://other/model"}))
        assert (
            "It was with HF://other/model; this is talkative." in typist.type(f"/load {saved}")[2]
        )

    def test_a_model_without_a_place_for_the_system_message(
        self, open_chat: Open, saved: Path
    ) -> None:
        typist = open_chat(conv_template={**CHAT, "system_template": ""})
        code, _, err = typist.type(f"/load {saved}", "And then?")
        assert (code, "Its system message is left out" in err) == (0, True)
        assert "sad" not in typist.prompt

    def test_a_model_without_memory(self, open_chat: Open, saved: Path) -> None:
        typist = open_chat(conv_template="LM")
        code, _, err = typist.type("Hello", f"/load {saved}", f"/save {saved}")
        assert code == 1
        assert err.count("Error [template-without-memory]: The template 'LM'") == 2

    def test_before_the_first_turn(self, typist: Typist, tmp_path: Path) -> None:
        code, _, err = typist.type(f"/save {tmp_path / 'c.json'}")
        assert (code, "There is no conversation to save yet." in err) == (1, True)

    def test_other_files_are_not_overwritten(self, typist: Typist, saved: Path) -> None:
        notes = saved.with_name("notes.txt")
        notes.write_text("mine")
        code, _, err = typist.type(f"/save {notes}")
        assert (code, "stays as it is" in err) == (1, True)
        assert notes.read_text() == "mine"


def test_stats(typist: Typist) -> None:
    typist.type("Hello")
    assert typist.type("/stats")[1] == f"{typist.chat.stats()}\n"
    assert typist.type("/stats -v")[1] == f"{typist.chat.stats(verbose=True)}\n"


def test_help_names_every_command(typist: Typist) -> None:
    from mlc_llm.cli.chat.commands import COMMANDS

    shown = typist.type("/help")[1]
    assert all(f"{command.usage} " in shown for command in COMMANDS)


class TestSet:
    def test_a_setting_counts_from_the_next_answer_on(self, typist: Typist) -> None:
        assert typist.type("/set max_gen_len 3") == (0, "max_gen_len 3\n", "")
        typist.type("Hello")
        assert len(typist.chat.results[0].token_ids) == 3
        assert typist.type("/set max_gen_len=5", "/set max_gen_len")[1] == "max_gen_len 5\n" * 2
        assert typist.type("/set max_gen_len default")[1] != "max_gen_len 5\n"

    def test_all_of_them(self, typist: Typist) -> None:
        _, out, _ = typist.type("/set")
        assert "temperature 0\n" in out
        assert "seed off\n" in out
        assert out.count("\n") == len(SETTINGS)

    @pytest.mark.parametrize(
        ("line", "code"),
        [
            ("/set temprature 1", "field-unknown"),
            ("/set top_p much", "config-invalid"),
            ("/set top_p 2", "config-invalid"),
            ("/set seed 1.5", "config-invalid"),
        ],
    )
    def test_what_is_not_a_setting(self, typist: Typist, line: str, code: str) -> None:
        before = typist.type("/set")
        failed, _, err = typist.type(line)
        assert failed == 1
        assert f"[{code}]" in err
        assert typist.type("/set") == before


class TestAnswersAgain:
    def test_retry_takes_the_place_of_the_last_answer(self, typist: Typist) -> None:
        typist.type("/set temperature 1", "/set seed 1", "Hello", "And then?")
        before = typist.chat.messages
        code, out, _ = typist.type("/retry")
        after = typist.chat.messages
        assert code == 0
        assert after[:-1] == before[:-1]
        assert after[-1].content != before[-1].content
        assert out.strip() == after[-1].content.strip()

    def test_continue_goes_on(self, typist: Typist) -> None:
        _, out, err = typist.type("Hello")
        assert "cut after 8 tokens, its max_gen_len" in err
        _, more, _ = typist.type("/continue")
        assert typist.chat.messages[-1].content == (out[:-1] + more[:-1])

    def test_prompt_shows_what_the_model_is_given(self, typist: Typist) -> None:
        _, out, err = typist.type("/prompt Hello\x1b[2J")
        assert out.endswith("Tom: Hello\\x1b[2J\nLily: \n")
        assert "Tell a story." in out
        assert err == f"({len(typist.chat.render('Hello' + chr(27) + '[2J').token_ids)} tokens)\n"
        typist.type("Hello", "And then?")
        assert "Tom: And then?\nLily: \n" in typist.type("/prompt")[1]

    @pytest.mark.parametrize("command", ["/retry", "/prompt", "/continue"])
    def test_before_the_first_message(self, typist: Typist, command: str) -> None:
        assert typist.type(command)[0] == 1
