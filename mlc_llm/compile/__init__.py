"""The compiler: from a model's shape to a model library.

Names are imported when they are first used: importing this package does not import TVM.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from mlc_llm._lazy import lazy_names
from mlc_llm.errors import CompileError

if TYPE_CHECKING:
    from mlc_llm.compile.build import compile_library
    from mlc_llm.compile.compiler import find_compiler
    from mlc_llm.compile.model import compile_model

_HOMES = {
    "compile_library": "mlc_llm.compile.build",
    "compile_model": "mlc_llm.compile.model",
    "find_compiler": "mlc_llm.compile.compiler",
}

__all__ = ["compile_library", "compile_model", "find_compiler"]


_look_up = lazy_names(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    if name == "compile_library" and _has_runtime_alone():
        raise CompileError(
            "TVM is without its compiler here (TVM_USE_RUNTIME_LIB=1), and compile_library needs "
            "it. Unset the variable before TVM is imported, or call compile_model, which compiles "
            "in a process of its own."
        )
    return _look_up(name)


def _has_runtime_alone() -> bool:
    """Whether TVM was imported with its runtime alone, or would be."""
    base = sys.modules.get("tvm.base")
    if base is not None:
        return bool(base._RUNTIME_ONLY)
    return os.environ.get("TVM_USE_RUNTIME_LIB") == "1"
