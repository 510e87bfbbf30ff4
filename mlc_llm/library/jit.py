"""Just-in-time compilation: the library is compiled here, in a child process, and cached.

The child isolates the compiler's crashes, its memory and Ctrl-C, and leaves the host with TVM's
runtime alone. See ``mlc_llm.compile.__main__`` for its side.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import logging
import re
import sysconfig
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlc_llm.cache_root import CACHE_VARIABLE
from mlc_llm.errors import CompileError, PluginError
from mlc_llm.library.cache import LIBRARY_SUFFIX, LibraryCache
from mlc_llm.library.record import check_file, read_record
from mlc_llm.plugin.architecture import Architecture
from mlc_llm.plugin.device import Device
from mlc_llm.plugin.hookspecs import hookimpl
from mlc_llm.plugin.model_library import Found, LibraryRequest, NotFound
from mlc_llm.registry.child import Outcome, python_command, python_environment, run_child
from mlc_llm.registry.registry import Registry, default_registry
from mlc_llm.version import __version__, tvm_version

logger = logging.getLogger("mlc_llm")

COMPILER_MODULE = "mlc_llm.compile"
COMPILE_ELSEWHERE = "compile it with `mlc_llm compile`, and name the file as model_lib"
COMPILER_PACKAGES = ("mlc_llm.compile", "mlc_llm.model", "mlc_llm.quantization")
"""Packages whose source decides what compiled code looks like, for every device."""


class JITProvider:
    """Answers with a library from the cache, compiled first where there is none.

    Args:
        cache: where libraries are kept; by default the user's cache.
        compiler: the command of the compiling child, to which ``--job FILE`` is added; by default
            ``python -m mlc_llm.compile``.
        registry: where devices and architectures are looked up; by default among those installed.
    """

    name = "jit"
    order = 100

    def __init__(
        self,
        cache: LibraryCache | None = None,
        compiler: Sequence[str] | None = None,
        registry: Registry | None = None,
    ) -> None:
        self._cache = cache
        self._compiler = compiler
        self._registry = registry

    @hookimpl
    def mlc_llm_find_library(self, request: LibraryRequest) -> Found | NotFound | None:
        if request.named is not None:
            return None
        cache = self._cache or LibraryCache()
        key = self.key(request)
        path = cache.path(key)
        try:
            if self._problem(path, request) is not None:
                with cache.locked(key):
                    self._build(cache, key, request)
        except CompileError as error:
            return NotFound(self.name, (("compiling it failed", str(error)),))
        except OSError as error:
            reason = f"{error}; {CACHE_VARIABLE} names another folder for the cache"
            return NotFound(self.name, ((str(cache.folder), reason),))
        return Found(path, self.name)

    def cached(self, request: LibraryRequest) -> Path | None:
        """The library that is in the cache for a request; nothing is compiled."""
        path = (self._cache or LibraryCache()).path(self.key(request))
        return path if self._problem(path, request) is None else None

    def key(self, request: LibraryRequest) -> str:
        """The name of the library's file in the cache: all that its code depends on."""
        registry = self._registry or default_registry()
        device = registry.device(request.device)
        packages = [*COMPILER_PACKAGES, *_modules(device, Device)]
        if request.spec.architecture in registry.names("architecture"):
            architecture = registry.architecture(request.spec.architecture)
            packages += _modules(architecture, Architecture)
        everything = {
            "spec": request.spec.digest(),
            "device": request.device,
            "plugin": registry.entry("device", request.device).version,
            "target": request.target,
            "tvm": tvm_version(),
            "project": __version__,
            "source": source_digest(tuple(packages)),
            "platform": sysconfig.get_platform(),
        }
        text = json.dumps(everything, sort_keys=True)
        spec = request.spec
        words = (spec.architecture, spec.quantization, request.device)
        name = re.sub(r"[^A-Za-z0-9._-]", "_", "-".join(words))[:80]
        return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"

    def _problem(self, path: Path, request: LibraryRequest) -> str | None:
        """Why a cached library cannot be taken, or None."""
        if not path.is_file():
            return "it is not there"
        device = (self._registry or default_registry()).device(request.device)
        reason = check_file(path, request, device)
        if reason is None and _plain(read_record(path).target) != _plain(request.target):
            reason = "it is for another target"
        return reason

    def _build(self, cache: LibraryCache, key: str, request: LibraryRequest) -> None:
        """Compile and publish, unless another process has done so meanwhile."""
        path = cache.path(key)
        reason = self._problem(path, request)
        if reason is None:
            return
        if path.exists():
            logger.warning("The cached library %s is compiled again: %s.", path, reason)
        spec = request.spec
        logger.info(
            "Compiling a model library for %s in %s on the device %s. This is done once.",
            spec.architecture,
            spec.quantization,
            request.device,
        )
        begin = time.monotonic()
        with cache.workspace(key) as folder:
            built = self._compile(folder, request)
            reason = self._problem(built, request)
            if reason is not None:
                raise CompileError(f"the compiler's result does not serve: {reason}")
            cache.publish(built, key)
        logger.info("Compiled in %.1f s.", time.monotonic() - begin)

    def _compile(self, folder: Path, request: LibraryRequest) -> Path:
        """Run the compiling child; Ctrl-C kills it.

        Raises:
            CompileError: it failed.
            OSError: its job cannot be written, or it cannot be started.
        """
        job, output = folder / "job.json", folder / f"library{LIBRARY_SUFFIX}"
        data = {
            "spec": request.spec.model_dump(mode="json"),
            "device": request.device,
            "target": request.target,
            "output": str(output),
        }
        job.write_text(json.dumps(data), encoding="utf-8")
        try:
            command = list(self._compiler or python_command(COMPILER_MODULE))
        except PluginError as error:
            raise CompileError(f"{error}; {COMPILE_ELSEWHERE}", code=error.code) from None
        # The compiler needs all of TVM, whatever this process restricts itself to.
        environment = python_environment({"TVM_USE_RUNTIME_LIB": None})
        outcome = run_child([*command, "--job", str(job)], environment)
        if outcome.returncode != 0:
            raise CompileError(_failure(outcome))
        return output


def _modules(plugin: object, interface: type) -> list[str]:
    """The modules of the classes that a plugin is made of: its own, and those it derives from."""
    bases = [base for base in type(plugin).__mro__ if issubclass(base, interface)]
    return [base.__module__ for base in bases if base is not interface]


def _failure(outcome: Outcome) -> str:
    """What the compiling child says went wrong, else how it ended."""
    lines = outcome.stdout.strip().splitlines()
    try:
        said = json.loads(lines[-1]) if lines else None
    except ValueError:
        said = None
    if isinstance(said, Mapping) and isinstance(said.get("error"), str):
        logger.debug("The compiler's traceback:\n%s", said.get("traceback"))
        return str(said["error"]).strip().rstrip(".")
    logger.debug("The compiler's stderr ends with:\n%s", outcome.stderr)
    text = f"the compiler {outcome.ending()}"
    if outcome.returncode == -9:
        text += ", perhaps because the memory was full"
    words = outcome.last_words()
    return f"{text}; it said: {words}" if words else text


@functools.cache
def source_digest(packages: tuple[str, ...]) -> str:
    """A hash of the Python files of some packages, so that changed code is compiled again.

    Args:
        packages: names of packages, or of modules that stand for the package they are in.
    """
    digest = hashlib.sha256()
    for name in packages:
        for file in _sources(name):
            digest.update(file.name.encode() + b"\0")
            digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _sources(name: str) -> list[Path]:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        # A module that was never imported from a file, such as __main__.
        spec = None
    if spec is None:
        return []
    if spec.submodule_search_locations is None:
        if "." in name:
            return _sources(name.rpartition(".")[0])
        return [Path(spec.origin)] if spec.has_location and spec.origin else []
    return sorted(f for place in spec.submodule_search_locations for f in Path(place).rglob("*.py"))


def _plain(target: Mapping[str, Any]) -> Any:
    """A target as JSON gives it back: lists for tuples, text for keys."""
    return json.loads(json.dumps(target, sort_keys=True))
