"""Fixtures that the tests of the templates share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlc_llm.tokenizer import Tokenizer

from .families import FAMILY, SPECIALS, loaded, write_tokenizer


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a tokenizer for each family."""
    made = {}
    for family in SPECIALS:
        made[family] = tmp_path_factory.mktemp(family)
        write_tokenizer(made[family], family)
    return made


@pytest.fixture
def tokenizer_of(folders: dict[str, Path]) -> Callable[[str], Tokenizer]:
    """The tokenizer of a template's family."""
    return lambda template: loaded(folders[FAMILY[template]])
