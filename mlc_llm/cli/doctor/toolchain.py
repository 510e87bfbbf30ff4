"""TVM and the C compiler, each tried for real in a child process."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlc_llm.cli.doctor.finding import Finding, Status
from mlc_llm.cli.doctor.trial import TRIAL_MODULE, TRIAL_SECONDS
from mlc_llm.compile.compiler import find_compiler, how_to_get_a_compiler
from mlc_llm.errors import CompileError
from mlc_llm.library.cache import LIBRARY_SUFFIX
from mlc_llm.registry.child import Outcome, python_command, python_environment, run_child
from mlc_llm.version import tvm_version

SOURCE = """
#ifdef __cplusplus
extern "C"
#endif
int mlc_llm_trial(void) { return 42; }
"""

REINSTALL = "Reinstall it: python -m pip install --force-reinstall --no-deps apache-tvm=={tvm}"


def check_tvm() -> Iterator[Finding]:
    """Whether TVM is imported whole, as for compiling, and with its runtime alone, as for chats."""
    for name, runtime_only in (("compiler", None), ("runtime", "1")):
        command = python_command(TRIAL_MODULE, "tvm")
        environment = python_environment({"TVM_USE_RUNTIME_LIB": runtime_only})
        yield tvm_finding(name, run_child(command, environment, TRIAL_SECONDS))


def tvm_finding(name: str, outcome: Outcome) -> Finding:
    """What a trial of TVM says."""
    remedy = REINSTALL.format(tvm=_installed_tvm())
    try:
        # Imported packages may write on stdout, too.
        said = json.loads(outcome.stdout.splitlines()[-1])
        error = said["error"]
    except (IndexError, KeyError, TypeError, ValueError):
        said, error = {}, f"importing it {outcome.ending()}"
        if words := outcome.last_words():
            error += f"; it said: {words}"
    if error:
        return Finding("tvm", name, Status.BROKEN, str(error), remedy)
    versions = f"TVM {said['tvm']}, tvm-ffi {said['ffi']}"
    if name == "compiler" and not said["llvm"]:
        return Finding("tvm", name, Status.BROKEN, f"{versions} was built without LLVM", remedy)
    return Finding("tvm", name, Status.OK, f"{versions} works")


def check_compiler() -> Iterator[Finding]:
    """Whether there is a C compiler, and whether what it links can be loaded."""
    try:
        compiler = find_compiler()
    except CompileError as error:
        yield Finding("compiler", "linker", Status.BROKEN, str(error), how_to_get_a_compiler())
        return
    problem = link_problem(compiler)
    if problem is None:
        yield Finding("compiler", compiler, Status.OK, "links shared libraries")
        return
    named = next((n for n in ("CXX", "CC") if compiler in os.environ.get(n, "").split()), None)
    remedy = (
        f"Set ${named} to a compiler that works, or unset it."
        if named
        else f"Repair it or name another one in $CXX. {how_to_get_a_compiler()}"
    )
    yield Finding("compiler", compiler, Status.BROKEN, problem, remedy)


def link_problem(compiler: str) -> str | None:
    """Why a compiler makes no shared library that can be loaded, or None when it does."""
    try:
        return _trial_problem(compiler)
    except OSError as error:
        return f"it cannot be tried: {error}"


def _trial_problem(compiler: str) -> str | None:
    with tempfile.TemporaryDirectory(prefix="mlc-llm-doctor-") as folder:
        source, library = Path(folder) / "trial.c", Path(folder) / f"trial{LIBRARY_SUFFIX}"
        source.write_text(SOURCE, encoding="utf-8")
        # As one word and with these options: this is how TVM calls it.
        command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source)]
        try:
            linked = run_child(command, python_environment({}), TRIAL_SECONDS)
        except OSError as error:
            return f"it cannot be started: {error}"
        if linked.returncode != 0 or not library.is_file():
            words = linked.last_words()
            return f"it {linked.ending()}" + (f"; it said: {words}" if words else "")
        command = python_command(TRIAL_MODULE, "load", str(library))
        loaded = run_child(command, python_environment({}), TRIAL_SECONDS)
        if loaded.returncode == 0:
            return None
        return f"what it links cannot be loaded: {loaded.last_words() or loaded.ending()}"


def _installed_tvm() -> str:
    from importlib.metadata import PackageNotFoundError

    try:
        return tvm_version()
    except PackageNotFoundError:
        return "VERSION"
