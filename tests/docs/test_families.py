"""The table of families says what the architectures and their tests say."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from mlc_llm.testing.families import FAMILIES

from .pages import ROOT


@pytest.fixture(scope="module")
def families() -> ModuleType:
    """The script that writes the table."""
    path = ROOT / "docs" / "_site" / "families.py"
    spec = importlib.util.spec_from_file_location("families", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_up_to_date(families: ModuleType) -> None:
    """Else run ``python docs/_site/families.py``."""
    page = families.PAGE.read_text(encoding="utf-8")
    assert families.with_table(page) == page


def test_the_lists_of_families_are_the_same(families: ModuleType) -> None:
    names = families.LIST.replace(" and ", ", ").split(", ")
    for examples in families.EXAMPLES.values():
        assert any(name in examples for name in names), examples
    for page in ("README.md", "docs/index.md"):
        assert families.LIST in " ".join((ROOT / page).read_text(encoding="utf-8").split())


def test_each_family_is_listed_and_tested_on_every_device(families: ModuleType) -> None:
    built_in = families.families()
    assert families.EXAMPLES.keys() == built_in.keys()
    for architectures in built_in.values():
        assert FAMILIES.keys() & {one.name for one in architectures}
