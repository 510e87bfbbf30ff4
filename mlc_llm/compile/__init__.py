"""The compiler: from a model's shape to a model library.

Names are imported when they are first used: importing this package does not import TVM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_llm._lazy import lazy_names

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


__getattr__ = lazy_names(__name__, _HOMES)
