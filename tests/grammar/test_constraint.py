"""How an answer follows its grammar: the end, what is forced, what is taken back, what fails."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from mlc_llm.errors import ConfigError, GenerationError
from mlc_llm.grammar import CompiledGrammar, GrammarCompiler, ResponseFormat, matcher
from mlc_llm.runtime.constraint import Constraint, token_ids
from mlc_llm.testing import raises
from mlc_llm.tokenizer import Tokenizer

from .conftest import Compile
from .random_model import RandomModel

POINT = {
    "type": "object",
    "properties": {"latitude": {"type": "number"}, "longitude": {"type": "number"}},
    "required": ["latitude", "longitude"],
    "additionalProperties": False,
}


def ids(constraint: Constraint, model: RandomModel) -> set[int]:
    return set(token_ids(constraint.allowed(), model.vocab_size).tolist())


def feed(constraint: Constraint, tokenizer: Tokenizer, text: str) -> None:
    for token in tokenizer.encode(text, continues=True):
        constraint.accept(token)


def bytes_of(tokenizer: Tokenizer, tokens: set[int]) -> set[bytes | None]:
    return {tokenizer.token_bytes(token) for token in tokens}


class TestTheEnd:
    def test_stop_tokens_are_allowed_where_the_answer_may_end(
        self, demo: Tokenizer, demo_model: RandomModel, demo_grammar: Compile
    ) -> None:
        stops = {2, 1}
        constraint = demo_grammar({"type": "regex", "regex": "a+b?"}).start(stops, continues=True)
        assert not constraint.may_end
        assert not stops & ids(constraint, demo_model)
        feed(constraint, demo, "a")
        assert constraint.may_end
        assert not constraint.must_end
        allowed = ids(constraint, demo_model)
        assert allowed > stops
        assert bytes_of(demo, allowed - stops) >= {b"a", b"b"}
        feed(constraint, demo, "b")
        assert constraint.must_end
        assert ids(constraint, demo_model) == stops

    def test_a_stop_token_that_is_text_is_no_text_of_the_answer(
        self, demo: Tokenizer, demo_model: RandomModel, demo_grammar: Compile
    ) -> None:
        (stop,) = demo.encode("b", continues=True)
        constraint = demo_grammar({"type": "regex", "regex": "ab?|bb"}).start(
            {stop}, continues=True
        )
        allowed = ids(constraint, demo_model)
        assert stop not in allowed
        assert b"b" in bytes_of(demo, allowed), "the byte's own token writes it"
        assert constraint.count_allowed([stop]) == 0
        feed(constraint, demo, "a")
        assert stop in ids(constraint, demo_model)

    def test_stop_tokens_that_the_model_has_not(
        self, demo_model: RandomModel, demo_grammar: Compile
    ) -> None:
        constraint = demo_grammar({"type": "regex", "regex": "a*"}).start({10**6})
        assert constraint.may_end
        assert max(ids(constraint, demo_model)) < demo_model.vocab_size

    def test_the_tokenizers_own_end_is_none_unless_it_is_a_stop_token(
        self, demo: Tokenizer, demo_model: RandomModel, demo_grammar: Compile
    ) -> None:
        constraint = demo_grammar({"type": "regex", "regex": "a*"}).start(())
        assert not set(demo.special_ids.values()) & ids(constraint, demo_model)

    def test_an_end_that_is_seen_late(
        self, demo: Tokenizer, demo_model: RandomModel, demo_grammar: Compile
    ) -> None:
        """After the second token nothing can follow, by a rule and not by an expression."""
        lark = "start: a b?\na[max_tokens=1]: /x+/\nb: /y/ /z{0}/"
        constraint = demo_grammar({"type": "grammar", "grammar": lark}).start((), continues=True)
        feed(constraint, demo, "x")
        feed(constraint, demo, "y")
        assert not ids(constraint, demo_model)
        assert constraint.must_end

    def test_a_grammar_may_ask_for_a_special_token(
        self, demo: Tokenizer, demo_model: RandomModel, demo_grammar: Compile
    ) -> None:
        lark = 'start: "a" <s> "b"'
        constraint = demo_grammar({"type": "grammar", "grammar": lark}).start({2}, continues=True)
        feed(constraint, demo, "a")
        assert ids(constraint, demo_model) == {demo.special_ids["<s>"]}
        constraint.accept(demo.special_ids["<s>"])
        assert bytes_of(demo, ids(constraint, demo_model)) == {b"b"}

    def test_a_special_token_that_there_is_not(self, demo_grammar: Compile) -> None:
        with raises("response-format-invalid", "<|moon|>", error=ConfigError):
            demo_grammar({"type": "grammar", "grammar": 'start: "a" <|moon|>'})


class TestForced:
    def test_forced_tokens_spell_what_must_come(
        self, tokenizer: Tokenizer, model: RandomModel, grammar: Compile
    ) -> None:
        """They are allowed one after another, and leave what a longer token may still change."""
        compiled = grammar({"type": "json_object", "schema": POINT})
        constraint = compiled.start(model.stop_ids)
        feed(constraint, tokenizer, '{"la')
        forced = constraint.forced()
        text = b"".join(tokenizer.token_bytes(token) or b"" for token in forced)
        assert text
        assert b'titude"'.startswith(text)
        assert constraint.count_allowed(forced) == len(forced)
        for token in forced:
            assert token in ids(constraint, model)
            constraint.accept(token)

    def test_nothing_is_forced_where_there_is_a_choice(
        self, demo: Tokenizer, demo_grammar: Compile
    ) -> None:
        constraint = demo_grammar({"type": "regex", "regex": "ab|ac"}).start(())
        feed(constraint, demo, "a")
        assert constraint.forced() == []

    def test_a_stop_token_is_never_forced(self, demo: Tokenizer, demo_grammar: Compile) -> None:
        tokens = demo.encode("abba", continues=True)
        constraint = demo_grammar({"type": "regex", "regex": "abba"}).start({tokens[0]})
        assert tokens[0] not in constraint.forced()

    def test_with_and_without_sampling_the_text_is_the_same(
        self, model: RandomModel, grammar: Compile
    ) -> None:
        """Greedy, with the same logits at each place; what is forced is what would be chosen."""
        compiled = grammar({"type": "json_object", "schema": POINT})

        def answer(forced: bool) -> list[int]:
            constraint, tokens = compiled.start(()), list[int]()
            while not constraint.must_end and len(tokens) < 60:
                logits = model.logits(np.random.default_rng(len(tokens)), len(tokens))
                allowed = sorted(ids(constraint, model))
                best = int(allowed[logits[allowed].argmax()])
                news = constraint.forced() if forced else []
                for token in news or [best]:
                    constraint.accept(token)
                    tokens.append(token)
            return tokens

        decode = model.tokenizer.decode
        assert decode(answer(True)) == decode(answer(False))


class TestDrafts:
    def test_a_draft_is_cut_where_the_grammar_ends_it(
        self, demo: Tokenizer, demo_grammar: Compile
    ) -> None:
        constraint = demo_grammar({"type": "regex", "regex": "[ab]*"}).start({2}, continues=True)
        good, bad = demo.encode("ab", continues=True), demo.encode("c", continues=True)
        assert constraint.count_allowed([]) == 0
        assert constraint.count_allowed([*good, *bad, *good]) == len(good)
        assert constraint.count_allowed([*good, 2]) == len(good)
        assert constraint.count_allowed([*good, 10**6]) == len(good)
        assert constraint.count_allowed([*good, -1]) == len(good)
        assert constraint.forced() == []
        feed(constraint, demo, "ab")


class TestFailures:
    def test_a_token_that_is_not_allowed(self, demo: Tokenizer, demo_grammar: Compile) -> None:
        """It changes nothing."""
        constraint = demo_grammar({"type": "regex", "regex": "[ab]{2}"}).start(())
        (bad,) = demo.encode("c", continues=True)
        for token in (bad, 2, -1, 10**6):
            with raises("generation-failed", token, error=GenerationError):
                constraint.accept(token)
        feed(constraint, demo, "ab")
        assert constraint.must_end

    @pytest.fixture
    def growing(self, demo: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> CompiledGrammar:
        """Each token leads to a new state of the lexer, of which there may be few."""
        monkeypatch.setattr(matcher, "MAX_LEXER_STATES", 1000)
        given = ResponseFormat.parse({"type": "regex", "regex": "(.*a.{12}){3}"})
        assert given is not None
        return GrammarCompiler(demo, demo.vocab_size).compile(given)

    def test_a_grammar_that_becomes_too_complex(
        self, demo: Tokenizer, growing: CompiledGrammar
    ) -> None:
        constraint, random = growing.start(()), np.random.default_rng(0)
        with raises("grammar-failed", "states", error=GenerationError):
            for _ in range(1000):
                constraint.allowed()
                feed(constraint, demo, "ab"[random.integers(2)])

    def test_no_answer_fails_for_what_others_have_used(
        self, demo: Tokenizer, growing: CompiledGrammar
    ) -> None:
        """Answers share a lexer, whose states have a limit, which all of these together pass."""
        first, random = growing._matcher, np.random.default_rng(0)
        for _ in range(50):
            constraint, text = growing.start(()), "".join(random.choice(["a", "b"], 30))
            for letter in text:
                constraint.allowed()
                feed(constraint, demo, letter)
        assert growing._matcher is not first, "the limit was not met"

    def test_a_model_without_the_characters(self, demo: Tokenizer) -> None:
        given = ResponseFormat.parse({"type": "regex", "regex": "é+"})
        assert given is not None
        with raises("response-format-invalid", "no token", error=ConfigError):
            GrammarCompiler(demo, 40).compile(given)


class TestCompiling:
    def test_the_same_format_is_compiled_once(self, demo_grammar: Compile) -> None:
        one = demo_grammar({"type": "regex", "regex": "once"})
        assert demo_grammar({"type": "regex", "regex": "once"}) is one

    def test_the_last_ones_are_kept(self, demo: Tokenizer, demo_grammar: Compile) -> None:
        first = demo_grammar({"type": "regex", "regex": "first"})
        for number in range(20):
            demo_grammar({"type": "regex", "regex": f"other {number}"})
        assert demo_grammar({"type": "regex", "regex": "first"}) is first
        for number in range(20):
            demo_grammar({"type": "regex", "regex": f"others {number}"})
        assert demo_grammar({"type": "regex", "regex": "first"}) is first
        for number in range(32):
            demo_grammar({"type": "regex", "regex": f"yet another {number}"})
        assert demo_grammar({"type": "regex", "regex": "first"}) is not first

    def test_answers_of_one_grammar_do_not_disturb_each_other(
        self, demo: Tokenizer, demo_model: RandomModel, demo_grammar: Compile
    ) -> None:
        compiled = demo_grammar({"type": "json_object", "schema": POINT})
        alone = [demo_model.answer(compiled.start({2}), seed, stop_ids={2}) for seed in range(4)]
        together: dict[int, list[int]] = {}

        def write(compiled: CompiledGrammar, seed: int) -> None:
            together[seed] = demo_model.answer(compiled.start({2}), seed, stop_ids={2})

        threads = [threading.Thread(target=write, args=(compiled, seed)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [together.get(seed) for seed in range(4)] == alone

    def test_no_work_before_the_first_format(self, demo: Tokenizer) -> None:
        class Untouched:
            def __getattr__(self, name: str) -> Any:
                raise AssertionError(name)

        GrammarCompiler(Untouched(), 100)  # type: ignore[arg-type]
