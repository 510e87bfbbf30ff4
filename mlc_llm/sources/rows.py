"""Reading some rows of an array that lies in a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_llm.errors import ConversionError
from mlc_llm.plugin.source import Rows
from mlc_llm.weights.paths import shown_name


def read_rows(
    name: str, file: Path, begin: int, dtype: str, shape: tuple[int, ...], rows: Rows
) -> npt.NDArray[Any]:
    """Some rows of an array, row-major.

    They are read and not mapped: a file that is cut short while it is mapped would end the process.

    Args:
        name: what the array is called, for messages.
        file: the file.
        begin: where the array begins in it.
        dtype: the array's dtype.
        shape: the array's shape.
        rows: slices along its first axis, or all.

    Raises:
        ConversionError: the file cannot be read, is shorter than it was, or no array has the shape.
    """
    numbers = np.dtype(dtype)
    if isinstance(rows, slice):
        first, last, _ = rows.indices(shape[0])
        shape = (max(0, last - first), *shape[1:])
        begin += first * math.prod(shape[1:]) * numbers.itemsize
    count = math.prod(shape)
    try:
        # Also of no elements: an array cannot have more than 64 axes, nor any length.
        if not count:
            return np.empty(shape, numbers)
        values = np.fromfile(file, numbers, count, offset=begin)
        if len(values) < count:
            raise ValueError("the file was cut short")
        return values.reshape(shape)
    except (OSError, ValueError) as error:
        raise ConversionError(
            f"{shown_name(name)} cannot be read from {file}: {error}.", code="checkpoint-damaged"
        ) from None
