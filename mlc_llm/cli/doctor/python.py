"""Python itself, the distributions that must have one version, and the number of threads."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
import sysconfig
from collections.abc import Iterator

from mlc_llm.cli.doctor.finding import Finding, Status
from mlc_llm.errors import PluginError
from mlc_llm.registry.child import python_command
from mlc_llm.runtime.threads import ThreadCount, physical_cores, thread_count
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
    """How many threads the CPU device uses for a model that has no setting of its own."""
    yield threads_finding("threads", "cpu", thread_count())


def threads_finding(area: str, name: str, threads: ThreadCount) -> Finding:
    """What a number of threads is worth here."""
    cores, origin = physical_cores(), threads.origin
    if not origin:
        detail = f"{cores}, one for each physical core that this process may use"
        return Finding(area, name, Status.OK, detail)
    text, number = threads.asked, threads.asked_number
    if number is None:
        detail = f"{origin} is {text!r}, not a number of threads"
        return Finding(area, name, Status.BROKEN, detail, f"Unset {origin}.")
    if number > cores:
        detail = f"{origin}={text}, and there are {cores} physical cores to use"
        remedy = f"Unset {origin}, or set it to {cores}: more threads than cores are slower."
        return Finding(area, name, Status.WARNING, detail, remedy)
    return Finding(area, name, Status.OK, f"{origin}={text}; physical cores: {cores}")


def _pip(*arguments: str) -> str:
    return " ".join(["python -m pip", *arguments])
