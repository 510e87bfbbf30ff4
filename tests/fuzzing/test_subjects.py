"""A handful of inputs for every subject; `make fuzz` feeds a hundred thousand."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz.outcome import Outcome, Result
from fuzz.subjects import SUBJECTS
from fuzz.subjects.demo import demo
from fuzz.worker import run
from mlc_llm.cache_root import CACHE_VARIABLE

INPUTS = 25


@pytest.fixture
def _work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work where a worker would, in a folder of its own."""
    monkeypatch.setenv(CACHE_VARIABLE, os.environ[CACHE_VARIABLE])  # which a subject may change
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def _close_the_demo() -> Iterator[None]:
    yield
    if demo.cache_info().currsize:
        demo().close()
        demo.cache_clear()


@pytest.mark.usefixtures("_work")
@pytest.mark.parametrize("name", SUBJECTS)
def test_nothing_is_found(name: str) -> None:
    subject = SUBJECTS[name]()
    events = run(subject, 0, range(INPUTS), time.monotonic() + 300)
    results = [event for event in events if isinstance(event, Result)]
    assert [result for result in results if result.outcome.is_finding] == []
    assert len(results) == len(subject.valid) + INPUTS
    accepted = sum(result.outcome is Outcome.ACCEPTED for result in results)
    assert accepted >= len(subject.valid)
