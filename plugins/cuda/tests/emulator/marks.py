"""Which tests run when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def only_in_matrix(values: Iterable[Any]) -> list[Any]:
    """Parameters of tests that only ``make cuda-matrix`` runs."""
    return [pytest.param(value, marks=pytest.mark.cuda_matrix) for value in values]
