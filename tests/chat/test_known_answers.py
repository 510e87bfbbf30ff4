"""Answers that come back as texts are known by what they answered."""

from __future__ import annotations

from mlc_llm.chat.known_answers import KnownAnswers
from mlc_llm.conversation import Message

HELLO = (Message("system", "Be brief."), Message("user", "Hello"))
HI = Message("assistant", "Hi.", (5, 6))
TEXT = Message("assistant", "Hi.")


def test_in_the_same_conversation() -> None:
    known = KnownAnswers()
    known.add(HELLO, HI)
    assert known.recognise((*HELLO, TEXT)) == (*HELLO, HI)
    more = (Message("user", "And then?"), Message("assistant", "Hi."))
    assert known.recognise((*HELLO, TEXT, *more)) == (*HELLO, HI, *more)
    known.add((*HELLO, TEXT, more[0]), Message("assistant", "Hi.", (7,)))
    assert known.recognise((*HELLO, TEXT, *more))[-1].token_ids == (7,)


def test_not_in_another_one() -> None:
    known = KnownAnswers()
    known.add(HELLO, HI)
    others = [
        (HELLO[1], TEXT),
        (HELLO[0], Message("user", "Hello!"), TEXT),
        (*HELLO, Message("assistant", "Hi")),
        (*HELLO, Message("user", "Hi.")),
        (*HELLO, Message("assistant", "Hi.", more={"name": "Bob"})),
        (HELLO[0], Message("user", "Hello", more={"name": "Bob"}), TEXT),
        (HELLO[1], HELLO[0], TEXT),
    ]
    for messages in others:
        assert known.recognise(messages) == messages


def test_tokens_that_a_message_has_stay() -> None:
    known = KnownAnswers()
    known.add(HELLO, HI)
    own = Message("assistant", "Hi.", (8, 9))
    assert known.recognise((*HELLO, own)) == (*HELLO, own)
    known.add(HELLO, TEXT)
    assert known.recognise((*HELLO, TEXT))[-1] == HI


def test_the_ones_asked_for_last_are_kept() -> None:
    known = KnownAnswers(most=2)
    asked = [(Message("user", str(number)),) for number in range(3)]
    for number in (0, 1):
        known.add(asked[number], HI)
    known.recognise((*asked[0], TEXT))
    known.add(asked[2], HI)
    found = [known.recognise((*one, TEXT))[-1].token_ids for one in asked]
    assert found == [(5, 6), None, (5, 6)]
