"""Stop strings: never shown, not even in part, however the text arrives."""

from __future__ import annotations

import hypothesis
from hypothesis import strategies as st

from mlc_llm.errors import ConfigError
from mlc_llm.testing import raises
from mlc_llm.tokenizer import StopText

SHORT = st.text("ab ", min_size=1, max_size=4)


def _shown(stops: list[str], pieces: list[str]) -> tuple[list[str], StopText]:
    stop = StopText(stops)
    return [*(stop.push(piece) for piece in pieces), stop.finish()], stop


def _expected(stops: list[str], text: str) -> tuple[str, str | None]:
    """By definition: read one character after the other until some stop string is complete."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


@hypothesis.given(st.lists(SHORT, max_size=3), st.lists(st.text("ab c", max_size=5), max_size=8))
@hypothesis.settings(max_examples=500)
def test_any_text_in_any_pieces(stops: list[str], pieces: list[str]) -> None:
    deltas, stop = _shown(stops, pieces)
    shown, matched = _expected(stops, "".join(pieces))
    assert "".join(deltas) == shown
    assert stop.matched == matched
    assert stop.stopped is (matched is not None)


@hypothesis.given(st.lists(SHORT, max_size=3), st.lists(st.text("ab c", max_size=5), max_size=8))
def test_no_more_is_held_back_than_must_be(stops: list[str], pieces: list[str]) -> None:
    stop = StopText(stops)
    given = shown = ""
    for piece in pieces:
        given += piece
        shown += stop.push(piece)
        if stop.stopped:
            return
        held = given[len(shown) :]
        assert held == "" or any(text.startswith(held) for text in stops)


def test_a_stop_string_split_over_pieces() -> None:
    deltas, stop = _shown(["[INST]"], ["Hi ", "[IN", "ST", "] more", " and more"])
    assert deltas == ["Hi ", "", "", "", "", ""]
    assert stop.matched == "[INST]"


def test_what_was_held_back_is_released() -> None:
    deltas, stop = _shown(["[INST]", "###"], ["a [", "x] #", "#"])
    assert deltas == ["a ", "[x] ", "", "##"]
    assert not stop.stopped


def test_the_string_that_is_complete_first_wins() -> None:
    for pieces in (["xab y"], ["x", "ab", " y"]):
        deltas, stop = _shown(["xab y", "ab"], pieces)
        assert "".join(deltas) == "x"
        assert stop.matched == "ab"


def test_without_stop_strings_all_passes_at_once() -> None:
    assert _shown([], ["a", "", "b"])[0] == ["a", "", "b", ""]


def test_an_empty_stop_string_is_an_error() -> None:
    with raises("config-invalid", "stop", error=ConfigError):
        StopText(["a", ""])
