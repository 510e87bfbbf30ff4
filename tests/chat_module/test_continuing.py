"""Answers that are gone on with, and what says that they were cut."""

from __future__ import annotations

import pickle
from typing import Any

from mlc_llm import ChatModule, GenerationConfig
from mlc_llm.errors import ConfigError
from mlc_llm.testing import raises

from .conftest import CHAT, Loader, held

ASSISTANT = "assistant"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def greedy(length: int, **config: Any) -> GenerationConfig:
    return GenerationConfig(temperature=0, max_gen_len=length, **config)


def going_on(length: int) -> GenerationConfig:
    return greedy(length, continue_final_message=True)


class TestGoingOn:
    def test_a_cut_answer_goes_on_as_if_it_had_not_been_cut(self, load: Loader) -> None:
        whole = load(conv_template=CHAT).generate("The cat", greedy(20))
        chat = load(conv_template=CHAT)
        begun = chat.generate("The cat", greedy(8))
        rest = chat.generate("", going_on(12))
        assert begun + rest == whole
        assert chat.results[0].prefilled_tokens <= 1
        assert [message.content for message in chat.messages] == ["The cat", whole]
        assert len(chat.messages[-1].token_ids or ()) == 20

    def test_and_on(self, load: Loader) -> None:
        whole = load(conv_template=CHAT).generate("The cat", greedy(12))
        chat = load(conv_template=CHAT)
        parts = [chat.generate("The cat", greedy(3))]
        parts += ["".join(chat.stream("", going_on(3))) for _ in range(3)]
        assert "".join(parts) == whole == chat.messages[-1].content

    def test_a_list_that_ends_with_an_answer(self, chat: ChatModule) -> None:
        begun = {"role": ASSISTANT, "content": "Once upon"}
        text = chat.generate([user("A story"), begun], going_on(6))
        prompt = "Tell a story.\nTom said: A story\nLily said: Once upon"
        ids = chat._chat.plan.tokenizer.encode(prompt)
        assert chat.results[0].prompt_tokens == 1 + len(ids)
        assert list(held(chat)[: 1 + len(ids)]) == [1, *ids]
        assert chat.messages[-1].content == "Once upon" + text
        # Without being asked for, it is an answer like any other, and a new one follows.
        chat.generate([user("A story"), begun], greedy(6))
        assert [message.content for message in chat.messages][1] == "Once upon"
        assert len(chat.messages) == 3

    def test_several_ways_to_go_on(self, chat: ChatModule) -> None:
        chat.generate("The cat", greedy(4))
        before = chat.messages[-1].content
        config = GenerationConfig(temperature=1, seed=1, n=2, max_gen_len=5)
        config.continue_final_message = True
        first, second = chat.generate("", config)
        assert first != second
        assert chat.messages[-1].content == before + first

    def test_what_cannot_go_on(self, load: Loader, chat: ChatModule) -> None:
        for prompt in ("", [user("Hello")]):
            with raises("prompt-malformed", "continue_final_message", error=ConfigError):
                chat.generate(prompt, going_on(3))
        chat.generate("Hello", greedy(3))
        before = chat.messages
        with raises("prompt-malformed", "'and then'", error=ConfigError):
            chat.generate("and then", going_on(3))
        with raises("template-without-memory", "'LM'", error=ConfigError):
            load().generate([user("a"), {"role": ASSISTANT, "content": "b"}], going_on(3))
        assert chat.messages == before


class TestLists:
    def test_a_list_costs_no_more_than_strings(self, load: Loader) -> None:
        """A client keeps texts alone; the tokens of the answers are known here."""
        strings, lists = load(conv_template=CHAT), load(conv_template=CHAT)
        history: list[Any] = []
        for question in ("The cat", "And then?", "Why?", "Where?"):
            strings.generate(question)
            history.append(user(question))
            history.append({"role": ASSISTANT, "content": lists.generate(history)})
            for field in ("text", "token_ids", "prompt_tokens", "prefilled_tokens"):
                one, other = (getattr(c.results[0], field) for c in (strings, lists))
                assert one == other, f"{field} after {question!r}"
        assert strings.messages == lists.messages

    def test_also_when_old_turns_are_dropped(self, load: Loader) -> None:
        settings = {"conv_template": CHAT, "context_window_size": 256, "mean_gen_len": 24}
        strings, lists = load(**settings), load(**settings)
        history: list[Any] = []
        for number in range(8):
            question = f"Tell me story {number}."
            strings.generate(question)
            history.append(user(question))
            history.append({"role": ASSISTANT, "content": lists.generate(history)})
        dropped = len(history) - len(strings.messages)
        assert dropped > 0
        assert lists.messages == strings.messages

    def test_an_answer_that_was_edited_is_read_as_text(self, told: ChatModule) -> None:
        edited = [user("The cat"), {"role": ASSISTANT, "content": "slept."}, user("Why?")]
        told.generate(edited)
        assert told.messages[1].token_ids is None


class TestWhatCutIt:
    def test_the_most_tokens(self, chat: ChatModule) -> None:
        *_, last = chat.stream("The cat", greedy(5))
        assert (last.finish_reason, last.limit) == ("length", "max_gen_len")
        assert chat.results[0].limit == "max_gen_len"
        assert pickle.loads(pickle.dumps(last)).limit == "max_gen_len"

    def test_the_window(self, load: Loader) -> None:
        chat = load(context_window_size=40, max_gen_len=200)
        chat.generate("Once upon a time")
        assert chat.results[0].limit == "context_window"

    def test_nothing(self, chat: ChatModule) -> None:
        text = chat.generate("The cat", greedy(20))
        chat.reset_chat()
        *_, last = chat.stream("The cat", greedy(20, stop=text[4:7]))
        assert (last.finish_reason, last.limit) == ("stop", None)
        assert chat.results[0].limit is None


def test_a_callback_that_cannot_be_called(told: ChatModule) -> None:
    before = told.metrics.prefill.tokens
    with raises("argument-mistyped", "progress_callback", 5, error=ConfigError):
        told.generate("Hello", progress_callback=5)  # type: ignore[arg-type]
    assert told.metrics.prefill.tokens == before
