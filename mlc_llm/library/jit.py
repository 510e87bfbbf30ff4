"""Just-in-time compilation: the library is compiled here, in a child process, and cached."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import re
import sysconfig
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlc_llm.cache_root import CACHE_VARIABLE
from mlc_llm.compile.child import compile_in_child
from mlc_llm.errors import CompileError, ConfigError
from mlc_llm.library.cache import LibraryCache
from mlc_llm.library.record import check_file, read_record
from mlc_llm.plugin.architecture import Architecture
from mlc_llm.plugin.device import Device
from mlc_llm.plugin.hookspecs import hookimpl
from mlc_llm.plugin.model_library import Found, LibraryRequest, NotFound
from mlc_llm.registry.registry import Registry, default_registry
from mlc_llm.source_digest import source_digest
from mlc_llm.version import __version__, tvm_version

logger = logging.getLogger("mlc_llm")

ANOTHER_CACHE = f"{CACHE_VARIABLE} names another folder for the cache"
MORE_SPACE = f"free some space, or {CACHE_VARIABLE} names a folder for the cache on another disk"
FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system calls a full disk."""
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
        try:
            cache = self._cache or LibraryCache()
        except ConfigError as error:
            return NotFound(self.name, (("the cache", str(error)),))
        key = self.key(request)
        try:
            if reason := cache.folder_problem():
                return NotFound(self.name, ((str(cache.folder), f"{reason}; {ANOTHER_CACHE}"),))
            cache.sweep()
            if self._problem(cache, key, request) is not None:
                with cache.locked(key):
                    self._build(cache, key, request)
        except CompileError as error:
            full = f"; {MORE_SPACE}" if error.code == "disk-full" else ""
            return NotFound(self.name, (("compiling it failed", f"{error}{full}"),))
        except OSError as error:
            remedy = MORE_SPACE if error.errno in FULL else ANOTHER_CACHE
            return NotFound(self.name, ((str(cache.folder), f"{error}; {remedy}"),))
        return Found(cache.path(key), self.name)

    def cached(self, request: LibraryRequest) -> Path | None:
        """The library that is in the cache for a request; nothing is compiled."""
        cache, key = self._cache or LibraryCache(), self.key(request)
        try:
            problem = cache.folder_problem() or self._problem(cache, key, request)
        except OSError as error:
            problem = str(error)
        return None if problem else cache.path(key)

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

    def _problem(self, cache: LibraryCache, key: str, request: LibraryRequest) -> str | None:
        """Why a cached library cannot be taken, or None."""
        path = cache.path(key)
        return cache.problem(path) or self._misfit(path, request)

    def _misfit(self, path: Path, request: LibraryRequest) -> str | None:
        """Why a library does not serve the request, or None."""
        device = (self._registry or default_registry()).device(request.device)
        reason = check_file(path, request, device)
        if reason is None and _plain(read_record(path).target) != _plain(request.target):
            reason = "it is for another target"
        return reason

    def _build(self, cache: LibraryCache, key: str, request: LibraryRequest) -> None:
        """Compile and publish, unless another process has done so meanwhile."""
        path, reason = cache.path(key), self._problem(cache, key, request)
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
            built = compile_in_child(spec, request.device, request.target, folder, self._compiler)
            reason = self._misfit(built, request)
            if reason is not None:
                raise CompileError(f"the compiler's result does not serve: {reason}")
            cache.publish(built, key)
        logger.info("Compiled in %.1f s.", time.monotonic() - begin)


def _modules(plugin: object, interface: type) -> list[str]:
    """The modules of the classes that a plugin is made of: its own, and those it derives from."""
    bases = [base for base in type(plugin).__mro__ if issubclass(base, interface)]
    return [base.__module__ for base in bases if base is not interface]


def _plain(target: Mapping[str, Any]) -> Any:
    """A target as JSON gives it back: lists for tuples, text for keys."""
    return json.loads(json.dumps(target, sort_keys=True))
