"""Sides in child processes: what they are asked, and in which order."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import tokenizers

from benchmarks.byte_tokenizer import write_tokenizer
from benchmarks.child import Child
from benchmarks.compare import Prompts, as_json, measure, parse
from benchmarks.protocol import prompt, tokens
from benchmarks.rows import Row

SIDE = """
import sys
from benchmarks.protocol import serve

class Fake:
    def about(self):
        return {"name": "fake", "version": "1"}
    def note(self, text):
        with open(sys.argv[2], "a") as log:
            print(sys.argv[1], *text.split(), file=log)
    def prefill(self, text):
        print("a library's own words")
        self.note(f"prefill {len(text)}")
        return float(sys.argv[3])
    def decode(self, text, steps):
        self.note(f"decode {len(text)} {steps}")
        return float(sys.argv[3])

serve(Fake())
"""


def child(name: str, log: Path, seconds: float) -> Child:
    return Child([sys.executable, "-c", SIDE, name, str(log), str(seconds)], threads=1)


def test_sides_are_measured_in_turns(tmp_path: Path) -> None:
    log = tmp_path / "log"
    rows = [Row.parse("prefill:8"), Row.parse("decode:4", steps=2)]
    with child("a", log, 0.5) as first, child("b", log, 0.25) as second:
        assert first.about["name"] == "fake"
        results = measure({"a": first, "b": second}, rows, rounds=3, quiet=1.0, prompts=Prompts())
    assert results["prefill 8"]["a"].values == [16.0] * 3
    assert results["prefill 8"]["b"].values == [32.0] * 3
    assert results["decode at 4"]["a"].values == [4.0] * 3
    lines = log.read_text().splitlines()
    # One warm-up each, then rounds there and back.
    order = "ab" + "ab" + "ba" + "ab"
    assert [line[0] for line in lines] == list(order * 2)
    assert {line[2:] for line in lines} == {"prefill 8", "decode 4 2"}


def test_the_report_has_every_round(tmp_path: Path) -> None:
    with child("a", tmp_path / "log", 0.5) as side:
        results = measure(
            {"a": side}, [Row.parse("prefill:8")], rounds=2, quiet=1.0, prompts=Prompts()
        )
        text = as_json(parse(["--shape", "llama-2-7b"]), {"a": side.about}, results)
    assert '"shape": "llama-2-7b"' in text
    assert '"version": "1"' in text
    assert text.count("16.0") == 2


def test_a_side_that_ends_is_named() -> None:
    with pytest.raises(SystemExit, match="A side ended with code 3"):
        Child([sys.executable, "-c", "raise SystemExit(3)"], threads=1)


def test_prompts_are_as_many_tokens_as_they_say(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    write_tokenizer(file, vocab=300)
    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    text = prompt(100)
    assert len(text) == 100
    assert tokenizer.encode(text).ids == tokens(text)


def test_prompts_of_two_variants_share_no_beginning() -> None:
    assert prompt(40, 3).startswith(prompt(10, 3))
    assert len({prompt(10, variant)[0] for variant in range(62)}) == 62
