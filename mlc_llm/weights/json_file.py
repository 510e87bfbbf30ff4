"""Reading JSON files that others wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlc_llm.errors import MLCError
from mlc_llm.weights.lfs import refuse_pointer


def read_json_object(path: Path, error: type[MLCError]) -> dict[str, Any]:
    """Return the JSON object that the file at ``path`` holds.

    Raises:
        error: the file cannot be read, is a Git-LFS pointer, no JSON, or holds something else.
    """
    try:
        refuse_pointer(path, error)
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as failure:
        raise error(f"{path} cannot be read: {failure.strerror or failure}.") from None
    except ValueError as failure:  # not UTF-8, not JSON, or a number of thousands of digits
        raise error(f"{path} is not valid JSON: {failure}.") from None
    except RecursionError:
        raise error(f"{path} is not valid JSON: it is nested too deeply.") from None
    if not isinstance(data, dict):
        raise error(f"{path} holds a {type(data).__name__}, not a JSON object.")
    return data
