"""Pictures are valid files that name every kernel that matters."""

from __future__ import annotations

import itertools
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_llm.cli.bench.figure import require_matplotlib
from mlc_llm.cli.bench.peaks import Peaks
from mlc_llm.cli.bench.picture import apart, draw, least_seconds
from mlc_llm.cli.bench.profiling import KernelRow, PhaseProfile, Profile
from mlc_llm.cli.bench.work import Arithmetic
from mlc_llm.testing import raises

PEAKS = Peaks(3e10, {Arithmetic.FLOAT: 3e11, Arithmetic.INTEGER: 1.4e12})


def phase(name: str, tokens: int, seconds: float) -> PhaseProfile:
    rows = (
        KernelRow("group_linear 64 x 32", 4, 0.5 * seconds, 4e6, 8e8, Arithmetic.INTEGER),
        KernelRow("attention", 4, 0.3 * seconds, 2e6, 5e7, Arithmetic.FLOAT),
        KernelRow("add", 8, 0.1 * seconds, 1e5, None, Arithmetic.FLOAT),
        KernelRow("silu_mul", 4, 0.001 * seconds, 1e4, 5e4, Arithmetic.FLOAT),
    )
    return PhaseProfile(name, tokens, 5, seconds, rows)


def profile(peaks: Peaks | None = PEAKS) -> Profile:
    return Profile((phase("prefill", 128, 0.05), phase("decode", 1, 0.002)), peaks)


@pytest.fixture(autouse=True)
def matplotlib() -> None:
    pytest.importorskip("matplotlib")


@pytest.mark.parametrize("peaks", [PEAKS, None], ids=["peaks", "no peaks"])
def test_an_svg(peaks: Peaks | None, tmp_path: Path) -> None:
    path = tmp_path / "profile.svg"
    draw(profile(peaks), "a model, cpu:0", path)
    root = ElementTree.parse(path).getroot()
    assert root.tag.endswith("svg")
    texts = ["".join(element.itertext()).strip() for element in root.iter() if element.text]
    for text in ("a model, cpu:0", "group_linear 64 x 32  (4)", "add  (8)", "1 other kernel"):
        assert text in texts
    assert ("int8" in texts) == (peaks is not None)


def test_an_svg_is_the_same_each_time(tmp_path: Path) -> None:
    paths = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for path in paths:
        draw(profile(), "title", path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_png(tmp_path: Path) -> None:
    from matplotlib.image import imread

    path = tmp_path / "profile.PNG"
    draw(profile(), "title", path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = imread(path, format="png")
    assert pixels.shape[1] > pixels.shape[0] > 500
    assert pixels.min() < 0.2 < 0.9 < pixels.max()


def test_the_least_time() -> None:
    row = KernelRow("k", 1, 1.0, 6e10, 2.8e12, Arithmetic.INTEGER)
    assert least_seconds(row, PEAKS) == 2.0
    row = KernelRow("k", 1, 1.0, 1.0, 9e11, Arithmetic.FLOAT)
    assert least_seconds(row, PEAKS) == 3.0
    row = KernelRow("k", 1, 1.0, 3e10, None, Arithmetic.FLOAT)
    assert least_seconds(row, PEAKS) == 1.0


@given(st.lists(st.floats(0, 500), max_size=20))
def test_labels_keep_their_distance(heights: list[float]) -> None:
    heights.sort(reverse=True)
    moved = apart(heights, 10.0)
    steps = [above - below for above, below in itertools.pairwise(moved)]
    assert all(step >= 10 - 1e-6 for step in steps)
    far = all(a - b >= 10 for a, b in itertools.pairwise(heights))
    assert not far or moved == pytest.approx(heights)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with raises("matplotlib-missing", 'pip install "mlc-llm[bench]"'):
        require_matplotlib()
    with raises("matplotlib-missing"):
        draw(profile(), "title", tmp_path / "profile.svg")
