"""The compiler as a child process: ``python -m mlc_llm.compile --job JOB.json``.

The job is a JSON object: ``spec`` (a ``ModelSpec``), ``device``, ``target`` and ``output``. The
exit status is 0 when the library stands at ``output``. Otherwise the last line of stdout is a JSON
object with ``error`` and ``traceback``.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path

from mlc_llm.errors import CompileError, MLCError
from mlc_llm.plugin import ModelSpec
from mlc_llm.registry.child import exit_with_parent, hidden
from mlc_llm.registry.registry import default_registry


def run(job: Path) -> None:
    """Compile what the job file says."""
    with hidden("torch"):
        _require_compiler()
        from mlc_llm.compile.build import compile_library

    data = json.loads(job.read_text(encoding="utf-8"))
    spec = ModelSpec.model_validate(data["spec"])
    registry = default_registry()
    compile_library(
        spec,
        registry.architecture(spec.architecture),
        registry.device(data["device"]),
        data["target"],
        Path(data["output"]),
    )


def _require_compiler() -> None:
    """TVM makes do with its runtime where the library of its compiler cannot be loaded."""
    import tvm
    from tvm import base

    if base._RUNTIME_ONLY:
        path = Path(tvm.__file__).parent / "lib"
        raise CompileError(
            f"TVM's compiler in {path} cannot be loaded: it is damaged, or the memory is short (a "
            "limit is shown by `ulimit -v`). `mlc_llm doctor` tries it.",
            code="compiler-unloadable",
        )


def main() -> int:
    exit_with_parent()
    parser = argparse.ArgumentParser(prog="python -m mlc_llm.compile")
    parser.add_argument("--job", type=Path, required=True)
    try:
        run(parser.parse_args().job)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # the parent process shows it
        said = str(error) if isinstance(error, MLCError) else f"{type(error).__name__}: {error}"
        code = getattr(error, "code", CompileError.code)
        print(json.dumps({"error": said, "code": code, "traceback": traceback.format_exc()}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
