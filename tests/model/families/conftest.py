"""Gives the tests of a family their variants."""

from __future__ import annotations

import pytest

from .conformance import FamilyConformance


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    family = metafunc.cls
    if family is None or not issubclass(family, FamilyConformance):
        return
    if "variant" in metafunc.fixturenames:
        first, *others = family.variants
        slow = [pytest.param(name, marks=pytest.mark.slow) for name in others]
        metafunc.parametrize("variant", [first, *slow])
    if "refusal" in metafunc.fixturenames:
        metafunc.parametrize("refusal", list(family.refused))
