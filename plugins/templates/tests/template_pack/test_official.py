"""The prompts beside what the models' own templates make, and the README's table of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from .families import FAMILY, template
from .official import (
    LEAVES_OUT,
    MORE,
    NONE,
    OFFICIAL,
    REASONING,
    REFUSES,
    TRIMS,
    Comparison,
    Official,
)

README = Path(__file__).parents[2] / "README.md"
ROW = re.compile(r"^\| `(.+?)` \| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)

DIFFERENCES = {TRIMS, REASONING, REFUSES, LEAVES_OUT}


@pytest.fixture(scope="session")
def official_data(test_data: Path) -> Any:
    path = test_data / "templates" / "official_prompts.json"
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def registry_of_mlc(test_data: Path) -> Any:
    path = test_data / "templates" / "mlc_templates.json"
    return json.loads(path.read_text(encoding="utf-8"))


def rows() -> dict[str, tuple[str, str]]:
    """The README's rows: the default system message, and what differs."""
    found = ROW.findall(README.read_text(encoding="utf-8"))
    assert len(found) == len({name for name, *_ in found})
    return {name: (default, compared) for name, _for, default, compared in found}


def comparisons(name: str, data: Any) -> list[Comparison]:
    further = [official for other, official in MORE if other == name]
    return [Comparison(name, official, data) for official in (OFFICIAL[name], *further)]


def test_the_table_has_every_template() -> None:
    assert rows().keys() == FAMILY.keys()


def test_all_names_of_mlc_are_here(registry_of_mlc: Any) -> None:
    assert len(registry_of_mlc) == 53
    assert registry_of_mlc.keys() <= FAMILY.keys()


def test_system_messages_are_mlcs(registry_of_mlc: Any) -> None:
    """But for LLaVA's, which is a line end there, and StableLM's mark, which is no part here."""
    for name, theirs in registry_of_mlc.items():
        expected = theirs["system_message"].removeprefix("<|SYSTEM|>").strip("\n")
        assert template(name).system_message == expected, name


@pytest.mark.parametrize("name", sorted(OFFICIAL))
class TestOfficialPrompts:
    def test_what_differs_is_what_the_table_says(self, name: str, official_data: Any) -> None:
        default, compared = rows()[name]
        found = comparisons(name, official_data)
        assert default == found[0].default()
        said = {difference for difference in DIFFERENCES if difference in compared}
        # Joined to a list, a difference loses its subject, as in "and trims messages".
        assert said == set().union(*(each.differences() for each in found))
        assert compared.startswith("the same")

    def test_most_conversations_are_the_same(self, name: str, official_data: Any) -> None:
        """A guard of the comparison itself."""
        each = Comparison(name, OFFICIAL[name], official_data)
        plain = [each.theirs(c) == each.ours(c, system="") for c in official_data["conversations"]]
        assert sum(plain) >= 3


@pytest.mark.parametrize("name", sorted(FAMILY.keys() - OFFICIAL.keys()))
def test_the_default_system_message_of_the_others(name: str) -> None:
    default, _ = rows()[name]
    assert (default == NONE) == (template(name).system_message == "")


def test_a_difference_is_noticed(official_data: Any) -> None:
    """Were the comparison blind, a wrong template would be called the same."""
    wrong = Comparison("chatml", Official("llama.cpp: phi-4"), official_data)
    with pytest.raises(AssertionError):
        wrong.differences()
