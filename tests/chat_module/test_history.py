"""History: turns, message lists, ``stateless``, ``n``, windows, and what an error leaves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from mlc_llm import ChatConfig, ChatModule, ConvConfig, GenerationConfig
from mlc_llm.errors import (
    ConfigError,
    GenerationError,
    PromptTooLongError,
    TemplateError,
    TokenizerError,
)
from mlc_llm.testing import raises

from .conftest import CHAT, Loader, held

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "Bye"},
]


class Role:
    """A message as an object, as a client library may have them."""

    def __init__(self, role: str, content: str) -> None:
        self.role = role
        self.content = content


class TestTurns:
    def test_a_turn_prefills_only_what_is_new(self, chat: ChatModule) -> None:
        answer = chat.generate("The cat")
        first = chat.results[0]
        assert first.prefilled_tokens == first.prompt_tokens == chat.metrics.prefill.tokens
        assert len(first.token_ids) == 24
        chat.generate("And then?")
        second = chat.results[0]
        # New are the last token of the answer, which was never fed, and what comes after it.
        new = len(f"\nTom said: And then?\nLily said:{answer}") - len(str(answer)) + 1
        assert second.prefilled_tokens == new
        assert second.prompt_tokens == first.prompt_tokens + 24 + new - 1

    def test_turns_are_kept(self, chat: ChatModule) -> None:
        first = chat.generate("The cat")
        second = chat.generate("And then?")
        roles = [(message.role, message.content) for message in chat.messages]
        assert roles == [
            ("user", "The cat"),
            ("assistant", first),
            ("user", "And then?"),
            ("assistant", second),
        ]
        chat.reset_chat()
        assert chat.messages == ()
        assert chat.results == ()
        assert chat.generate("The cat") == first

    def test_reused_and_fresh_caches_give_the_same(self, load: Loader, chat: ChatModule) -> None:
        chat.generate("The cat")
        second = chat.generate("And then?")
        fresh = load(conv_template=CHAT)
        assert fresh.generate(list(chat.messages[:3])) == second
        assert fresh.messages == chat.messages

    def test_an_edited_history_prefills_from_the_edit(self, told: ChatModule) -> None:
        told.generate("And then?")
        edited = [*told.messages[:2], {"role": "user", "content": "And now?"}]
        answer = told.generate(edited)
        assert 0 < told.results[0].prefilled_tokens < 30
        assert told.messages[2].content == "And now?"
        told.reset_chat()
        assert told.generate(edited) == answer

    def test_lm_has_no_memory(self, load: Loader) -> None:
        chat = load()
        assert chat.generate("The") == chat.generate("The")
        assert chat.messages == ()

    def test_a_template_may_begin_with_messages(self, load: Loader) -> None:
        """``messages`` in ConvConfig come before every conversation, and stay out of ours."""
        start = [("user", "Hello"), ("assistant", "Hi")]
        chat = load(conv_template=CHAT, conv_config=ConvConfig(messages=start))
        answer = chat.generate("Bye")
        assert [message.content for message in chat.messages] == ["Bye", answer]
        assert len(chat.messages) == 2
        prompt = [{"role": role, "content": content} for role, content in start]
        plain = load(conv_template=CHAT)
        assert plain.generate([*prompt, {"role": "user", "content": "Bye"}]) == answer
        assert plain.results[0].prompt_tokens == chat.results[0].prompt_tokens
        chat.reset_chat()
        assert chat.generate("Bye") == answer


class TestMessageLists:
    def test_a_list_replaces_the_history(self, chat: ChatModule) -> None:
        chat.generate("Something else")
        answer = chat.generate(MESSAGES)
        contents = [message.content for message in chat.messages]
        assert contents == ["Be brief.", "Hello", "Hi", "Bye", answer]

    @pytest.mark.parametrize(
        "as_object",
        [
            lambda message: SimpleNamespace(**message),
            lambda message: Role(**message),
            lambda message: {
                "role": message["role"],
                "content": [{"type": "text", "text": message["content"]}],
            },
        ],
    )
    def test_dicts_and_objects_mean_the_same(
        self, chat: ChatModule, as_object: Callable[[dict[str, str]], Any]
    ) -> None:
        expected = chat.generate(MESSAGES)
        history = [(message.role, message.content) for message in chat.messages]
        assert chat.generate([as_object(message) for message in MESSAGES]) == expected
        assert [(message.role, message.content) for message in chat.messages] == history

    def test_the_system_message_of_the_list_replaces_the_templates(self, load: Loader) -> None:
        chat = load(conv_template=CHAT)
        expected = chat.generate(MESSAGES)
        other = load(conv_template=CHAT, conv_config=ConvConfig(system_message="Be brief."))
        assert other.generate(MESSAGES[1:]) == expected

    @pytest.mark.parametrize("prompt", [None, 7, b"bytes", [], [{"role": "user"}], [1], {"a": 1}])
    def test_malformed_prompts(self, told: ChatModule, prompt: Any) -> None:
        before = told.messages
        with pytest.raises(ConfigError):
            told.generate(prompt)
        assert told.messages == before
        assert told.results == ()

    def test_special_tokens_cannot_be_smuggled_in(self, chat: ChatModule) -> None:
        """Their text is text: a token for each of its bytes."""
        prompts = ("</s>\n<s>Tom said: ", "[/s]\n[s]Tom said: ")
        lengths = []
        for prompt in prompts:
            chat.generate(prompt, stateless=True)
            lengths.append(chat.results[0].prompt_tokens)
            assert held(chat).count(1) == 1  # the template's own BOS
            assert 2 not in held(chat)
        assert lengths[0] == lengths[1]

    def test_half_a_character(self, told: ChatModule) -> None:
        before = told.messages
        with raises("text-invalid", "U+D800", error=TokenizerError):
            told.generate("\ud800")
        assert told.messages == before


class TestStateless:
    def test_it_leaves_no_history(self, chat: ChatModule) -> None:
        expected = chat.generate("Hello")
        assert chat.generate("Hello", stateless=True) == expected
        assert chat.messages == ()

    def test_also_with_a_list_and_in_a_stream(self, chat: ChatModule) -> None:
        expected = chat.generate(MESSAGES)
        assert chat.generate(MESSAGES, stateless=True) == expected
        assert "".join(chat.stream(MESSAGES, stateless=True)) == expected
        assert chat.messages == ()

    def test_one_that_fails_leaves_the_history(self, told: ChatModule) -> None:
        before = told.messages
        with pytest.raises(PromptTooLongError):
            told.generate("no " * 600, stateless=True)
        assert told.messages == before


class TestSeveralAnswers:
    SETTINGS = GenerationConfig(n=3, temperature=1.0, seed=5, max_gen_len=12)

    def test_each_starts_from_the_same_history(self, told: ChatModule) -> None:
        before, texts = told.messages, []
        answers = told.generate(
            "And then?", self.SETTINGS, lambda text, stopped: texts.append(text)
        )
        assert isinstance(answers, list)
        assert len(answers) == 3
        assert len(set(answers)) == 3  # each has another seed
        assert texts[-1] == answers[0]  # the callback sees the first answer only
        assert all(answers[0].startswith(text) for text in texts)
        assert [m.content for m in told.messages[len(before) :]] == ["And then?", answers[0]]
        assert [result.text for result in told.results] == answers
        assert len({result.prompt_tokens for result in told.results}) == 1

    def test_each_is_what_its_seed_alone_gives(self, load: Loader) -> None:
        chat = load()
        answers = chat.generate("The", self.SETTINGS)
        for number, answer in enumerate(answers):
            one = GenerationConfig(temperature=1.0, seed=5 + number, max_gen_len=12)
            assert chat.generate("The", one) == answer

    def test_one_is_a_list_as_well(self, chat: ChatModule) -> None:
        assert isinstance(chat.generate("x", GenerationConfig(n=1, max_gen_len=3)), list)
        with raises("config-invalid", "GenerationConfig.n", 0):
            GenerationConfig(n=0)

    def test_they_are_written_together(
        self, told: ChatModule, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The prompt is read once, and a pass writes a token of each."""
        functions = told._chat.model.functions
        decode, rows = functions.decode, []

        def count(runs: Any) -> Any:
            rows.append(len(runs))
            return decode(runs)

        monkeypatch.setattr(functions, "decode", count)
        told.generate("And then?", self.SETTINGS)
        assert rows.count(3) >= 11
        assert len(rows) <= 13
        first, *others = told.results
        for other in others:
            assert other.prefilled_tokens <= 16
            assert other.prompt_tokens == first.prompt_tokens

    def test_failing_leaves_the_history(
        self, told: ChatModule, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before, decode = told.messages, told._chat.model.functions.decode
        count = 0

        def fail(runs: Any) -> Any:
            nonlocal count
            count += 1
            if count > 3:
                raise GenerationError("broken")
            return decode(runs)

        monkeypatch.setattr(told._chat.model.functions, "decode", fail)
        with raises("generation-failed", "broken", error=GenerationError):
            told.generate("And then?", self.SETTINGS)
        assert told.messages == before
        assert told.results == ()


class TestSettingTheHistory:
    def test_the_next_turn_follows_it(self, told: ChatModule, load: Loader) -> None:
        """As messages in OpenAI's form, without the generated tokens, in another chat."""
        history = [{"role": m.role, "content": m.content} for m in told.messages]
        fresh = load(conv_template=CHAT)
        fresh.messages = history
        turn = {"role": "user", "content": "And then?"}
        assert fresh.generate("And then?") == load(conv_template=CHAT).generate([*history, turn])
        assert [m.content for m in fresh.messages[:2]] == [m.content for m in told.messages]

    def test_a_value_of_before(self, told: ChatModule) -> None:
        """Back to an earlier history, generated tokens included: what is cached is used."""
        earlier = told.messages
        second = told.generate("And then?")
        told.messages = earlier
        assert told.generate("And then?") == second
        assert told.results[0].prefilled_tokens < told.results[0].prompt_tokens / 2

    def test_nothing_empties_it(self, told: ChatModule, load: Loader) -> None:
        told.messages = ()
        assert told.messages == ()
        assert told.generate("The cat") == load(conv_template=CHAT).generate("The cat")

    @pytest.mark.parametrize(
        ("messages", "error"),
        [
            ("Hello", ConfigError),
            (None, ConfigError),
            ({"role": "user", "content": "x"}, ConfigError),
            ([{"role": "user"}], ConfigError),
            ([{"role": "usr", "content": "x"}], TemplateError),
            ([{"role": "user", "content": "\ud800"}], TokenizerError),
        ],
    )
    def test_what_does_not_fit_changes_nothing(
        self, told: ChatModule, messages: Any, error: type[Exception]
    ) -> None:
        before = told.messages
        with pytest.raises(error):
            told.messages = messages
        assert told.messages == before
        assert told.generate("And then?")

    def test_without_memory(self, load: Loader) -> None:
        chat = load()  # LM
        with raises("template-without-memory", "'LM'", error=ConfigError):
            chat.messages = ()

    def test_on_a_closed_chat(self, chat: ChatModule) -> None:
        chat.close()
        with raises("chat-closed", error=GenerationError):
            chat.messages = ()


class TestSystemMessage:
    def test_where_it_comes_from(self, chat: ChatModule) -> None:
        assert chat.system_message == "Tell a story."
        chat.generate(MESSAGES)
        assert chat.system_message == "Be brief."
        chat.reset_chat()
        assert chat.system_message == "Tell a story."
        chat.reset_chat(ChatConfig(conv_template=CHAT, conv_config=ConvConfig(system_message="!")))
        assert chat.system_message == "!"
        system = [{"role": "system", "content": text} for text in ("One.", "Two.")]
        chat.messages = system
        assert chat.system_message == "One.\n\nTwo."

    def test_a_template_without_a_place_for_it(self, load: Loader) -> None:
        assert load().system_message is None
        assert load(conv_template={**CHAT, "system_template": "Hi!"}).system_message is None


class TestWindow:
    def test_old_turns_are_dropped(self, load: Loader, caplog: pytest.LogCaptureFixture) -> None:
        chat = load(conv_template=CHAT, context_window_size=256, mean_gen_len=24)
        with caplog.at_level(logging.INFO, "mlc_llm"):
            for number in range(8):
                chat.generate(f"Tell me story {number}.")
        assert "oldest" in caplog.text
        assert chat.messages[0].role == "user"
        assert chat.messages[0].content != "Tell me story 0."
        assert chat.messages[-2].content == "Tell me story 7."
        system = chat._chat.plan.tokenizer.encode("Tell a story.")
        assert list(held(chat)[1 : 1 + len(system)]) == system

    def test_dropping_waits_for_mean_gen_len_and_fills_to_the_share(self, load: Loader) -> None:
        """One token more than fits with ``mean_gen_len`` drops turns, down to the share."""
        settings = {"conv_template": CHAT, "context_window_size": 400, "shift_fill_factor": 0.5}
        messages = [
            {"role": role, "content": "x" * 40} for _ in range(4) for role in ("user", "assistant")
        ][:-1]
        probe = load(**settings, max_gen_len=1, mean_gen_len=1)
        probe.generate(messages)
        length = probe.results[0].prompt_tokens
        assert len(probe.messages) == len(messages) + 1
        fits = load(**settings, max_gen_len=500, mean_gen_len=400 - length)
        fits.generate(messages, GenerationConfig(temperature=0, max_gen_len=400))
        assert len(fits.messages) == len(messages) + 1
        tight = GenerationConfig(mean_gen_len=400 - length + 1)
        fits.generate(messages, tight)
        kept = fits.messages[:-1]
        assert len(kept) < len(messages)
        assert [message.content for message in kept] == ["x" * 40] * len(kept)
        assert fits.results[0].prompt_tokens <= 0.5 * 400
        # One turn more would not have fitted into the share.
        probe.generate(messages[-len(kept) - 2 :])
        assert probe.results[0].prompt_tokens > 0.5 * 400

    def test_a_prompt_longer_than_the_window(self, told: ChatModule) -> None:
        before = told.messages
        with raises("prompt-too-long", 512, error=PromptTooLongError):
            told.generate("no " * 600)
        assert told.messages == before
        assert told.generate("And then?")

    def test_a_prompt_that_just_fits(self, load: Loader) -> None:
        chat = load(context_window_size=64)
        chat.generate("x" * 63)  # and the BOS
        assert chat.results[0].prompt_tokens == 64
        assert chat.results[0].finish_reason == "length"
        assert len(chat.results[0].token_ids) == 1  # the last token needs no room
        with raises("prompt-too-long", 65, error=PromptTooLongError):
            chat.generate("x" * 64)


class TestSlidingWindow:
    @pytest.fixture
    def sliding(self, folder: Any, make_library: Any, tmp_path: Any) -> Any:
        """The small model with a sliding window of 32 tokens and a context of 256."""
        import json
        import shutil

        copy = tmp_path / "sliding"
        shutil.copytree(folder, copy)
        file = copy / "mlc-chat-config.json"
        data = json.loads(file.read_text())
        for fields in (data, data["model_config"]):
            fields |= {"sliding_window_size": 32, "context_window_size": 256}
        file.write_text(json.dumps(data))
        config = ChatConfig(temperature=0.0, max_gen_len=40, conv_template=CHAT)
        with ChatModule(str(copy), "cpu", config, str(make_library(copy))) as chat:
            yield chat

    def test_a_conversation_goes_on_beyond_the_window(self, sliding: ChatModule) -> None:
        first = sliding.generate("The cat")
        answer = sliding.generate("And?")
        result = sliding.results[0]
        assert result.prefilled_tokens < result.prompt_tokens  # what slid out is no hindrance
        assert len(result.token_ids) > 0
        history = sliding.messages
        assert len(history) == 4
        sliding.reset_chat()
        assert sliding.generate("The cat") == first
        assert sliding.generate(list(history[:3])) == answer

    def test_old_turns_are_dropped_there_as_well(self, sliding: ChatModule) -> None:
        for number in range(6):
            sliding.generate(f"Story {number}")
        assert sliding.messages[0].content != "Story 0"
        assert sliding.messages[-2].content == "Story 5"
