"""The operations that modules compute with: those of TVM's ``relax.frontend.nn.op``.

Each is looked up when it is used, so that a model can be described without importing TVM.
"""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("tvm.relax.frontend.nn.op"), name)
