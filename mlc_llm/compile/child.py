"""Compiling in a child process, which the cache and :func:`mlc_llm.compile.compile_model` both do.

LLVM ends its process when a file cannot be written, and a compiler may crash or fill the memory:
the child keeps that from the program that asked, which is left with TVM's runtime alone, and with
Ctrl-C. See ``mlc_llm.compile.__main__`` for its side.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlc_llm.errors import CompileError, PluginError
from mlc_llm.plugin import ModelSpec
from mlc_llm.registry.child import Outcome, python_command, python_environment, run_child

logger = logging.getLogger("mlc_llm")

COMPILER_MODULE = "mlc_llm.compile"
_LLVM = "LLVM ERROR: "
LIBRARY_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")


def compile_in_child(
    spec: ModelSpec,
    device: str,
    target: Mapping[str, Any],
    folder: Path,
    compiler: Sequence[str] | None = None,
) -> Path:
    """Compile a library in a child process; Ctrl-C kills it.

    Args:
        spec: what to compile.
        device: the device's name.
        target: the TVM target.
        folder: a folder for nothing else, which is for the caller to remove.
        compiler: the child's command, to which ``--job FILE`` is added; by default ``python -m
            mlc_llm.compile``.

    Returns:
        The library's file, in ``folder``.

    Raises:
        CompileError: it failed, with the reason that the child gave, or the disk is full.
        OSError: its job cannot be written, or it cannot be started.
    """
    job, output = folder / "job.json", folder / f"library{LIBRARY_SUFFIX}"
    data = {
        "spec": spec.model_dump(mode="json"),
        "device": device,
        "target": target,
        "output": str(output),
    }
    job.write_text(json.dumps(data), encoding="utf-8")
    try:
        command = list(compiler or python_command(COMPILER_MODULE))
    except PluginError as error:
        elsewhere = "compile it with `mlc_llm compile`, and name the file as model_lib"
        raise CompileError(f"{error}; {elsewhere}", code=error.code) from None
    # The compiler needs all of TVM, whatever this process restricts itself to. Temporary files, of
    # the linker too, go where they are removed whatever becomes of the child.
    environment = python_environment({"TVM_USE_RUNTIME_LIB": None, "TMPDIR": str(folder)})
    outcome = run_child([*command, "--job", str(job)], environment)
    if outcome.returncode != 0:
        raise _full_disk(outcome, folder) or _failure(outcome)
    return output


def _full_disk(outcome: Outcome, folder: Path) -> CompileError | None:
    """The error for a full disk, which LLVM, the linker and Python tell in the system's words."""
    words = os.strerror(errno.ENOSPC)
    if words not in outcome.stdout and words not in outcome.stderr:
        return None
    return CompileError(f"the disk is full, or the quota used up, in {folder}", code="disk-full")


def _failure(outcome: Outcome) -> CompileError:
    """What the compiling child says went wrong, with its code, else how it ended."""
    lines = outcome.stdout.strip().splitlines()
    try:
        said = json.loads(lines[-1]) if lines else None
    except ValueError:
        said = None
    if isinstance(said, Mapping) and isinstance(said.get("error"), str):
        logger.debug("The compiler's traceback:\n%s", said.get("traceback"))
        code = said.get("code")
        message = str(said["error"]).strip().rstrip(".")
        return CompileError(message, code=code if isinstance(code, str) else None)
    logger.debug("The compiler's stderr ends with:\n%s", outcome.stderr)
    text = f"the compiler {outcome.ending()}"
    if outcome.returncode == -signal.SIGKILL:
        text += ", perhaps because the memory was full"
    words = _llvms_words(outcome) or outcome.last_words()
    return CompileError(f"{text}; it said: {words}" if words else text)


def _llvms_words(outcome: Outcome) -> str:
    """What LLVM ended the process for; a thread of it that goes on may crash and say more."""
    lines = map(str.strip, outcome.stderr.splitlines())
    return next((line for line in lines if line.startswith(_LLVM)), "")
