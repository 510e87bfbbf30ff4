"""Python itself, the distributions that must have one version, and the number of threads."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
import sysconfig
from collections.abc import Iterator

from mlc_llm.cli.doctor.finding import Finding, Status
from mlc_llm.errors import PluginError
from mlc_llm.plugin.child import python_command
from mlc_llm.runtime.threads import physical_cores
from mlc_llm.version import __version__

OLDEST_PYTHON = (3, 11)
CORE = "mlc-llm"

_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*==\s*(?P<version>[^\s;,]+)\s*$")


def check_python() -> Iterator[Finding]:
    """Python's version and ABI, and whether child processes can be started with it."""
    abi = sysconfig.get_config_var("SOABI") or sysconfig.get_config_var("EXT_SUFFIX") or ""
    detail = f"{platform.python_implementation()} {platform.python_version()} ({abi})"
    detail += f" on {platform.platform(terse=True)} {platform.machine()}"
    if sys.version_info < OLDEST_PYTHON or platform.python_implementation() != "CPython":
        oldest = ".".join(map(str, OLDEST_PYTHON))
        remedy = f"Install CPython {oldest} or newer, and mlc-llm in it."
        yield Finding("python", "interpreter", Status.BROKEN, detail, remedy)
        return
    yield Finding("python", "interpreter", Status.OK, detail)
    try:
        python_command("mlc_llm")
    except PluginError as error:
        remedy = "Run mlc_llm in an ordinary Python, where devices are probed and models compiled."
        yield Finding("python", "child processes", Status.BROKEN, str(error), remedy)


def check_versions() -> Iterator[Finding]:
    """Whether the distributions that mlc-llm names an exact version of have that version."""
    try:
        requirements = importlib.metadata.requires(CORE) or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "versions",
            CORE,
            Status.WARNING,
            f"mlc_llm {__version__} is imported, but not installed, so its plugins are not found",
            f"Install it: {_pip('install', CORE)}",
        )
        return
    yield Finding("versions", CORE, Status.OK, __version__)
    for requirement in requirements:
        # Those of extras have a marker after a semicolon.
        if pin := _PIN.match(requirement):
            yield check_version(pin["name"], pin["version"])


def check_version(name: str, wanted: str) -> Finding:
    """Whether a distribution is installed in one exact version."""
    remedy = f"Install it: {_pip('install', f'{name}=={wanted}')}"
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding("versions", name, Status.BROKEN, "it is not installed", remedy)
    if found != wanted:
        detail = f"version {found} is installed, and mlc-llm {__version__} needs {wanted}"
        return Finding("versions", name, Status.BROKEN, detail, remedy)
    return Finding("versions", name, Status.OK, found)


def check_threads() -> Iterator[Finding]:
    """How many threads the CPU device uses."""
    cores = physical_cores()
    # TVM reads the first of these that is set.
    variable = next((n for n in ("TVM_NUM_THREADS", "OMP_NUM_THREADS") if n in os.environ), None)
    if variable is None:
        detail = f"{cores}, one for each physical core that this process may use"
        yield Finding("threads", "cpu", Status.OK, detail)
        return
    text = os.environ[variable]
    if not text.isdecimal() or not int(text):
        detail = f"{variable} is {text!r}, not a number of threads"
        yield Finding("threads", "cpu", Status.BROKEN, detail, f"Unset {variable}.")
    elif int(text) > cores:
        detail = f"{variable}={text}, and there are {cores} physical cores to use"
        remedy = f"Unset {variable}, or set it to {cores}: more threads than cores are slower."
        yield Finding("threads", "cpu", Status.WARNING, detail, remedy)
    else:
        yield Finding("threads", "cpu", Status.OK, f"{variable}={text}; physical cores: {cores}")


def _pip(*arguments: str) -> str:
    return " ".join(["python -m pip", *arguments])
