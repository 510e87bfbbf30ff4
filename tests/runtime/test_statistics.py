"""The text of the statistics, to the letter."""

from __future__ import annotations

import pytest

from mlc_llm.runtime.statistics import Metrics, PhaseMetrics


def test_summary_and_details() -> None:
    metrics = Metrics(PhaseMetrics(6955, 2.0), PhaseMetrics(768, 5.0))
    assert metrics.summary() == "prefill: 3477.5 tok/s, decode: 153.6 tok/s"
    assert metrics.details() == (
        "prefill: 3477.5 tok/s, 6955 tokens, 2.000 s\ndecode: 153.6 tok/s, 768 tokens, 5.000 s"
    )


def test_nothing_measured() -> None:
    assert Metrics().summary() == "prefill: 0.0 tok/s, decode: 0.0 tok/s"


def test_time_counts_when_the_block_fails() -> None:
    phase = PhaseMetrics()
    with phase.measure() as same:
        same.tokens += 3
    with pytest.raises(ZeroDivisionError), phase.measure():
        raise ZeroDivisionError
    assert phase.tokens == 3
    assert phase.seconds > 0
