"""Libraries that the processes of one pytest run share: each is compiled once.

The folder is one of pytest's temporary ones, so that no library outlives the run: what is tested is
always compiled from the source as it is. Keys, locks and checks are those of the cache that
:class:`~mlc_llm.library.jit.JITProvider` keeps. Where ``MLC_LLM_CACHE`` names the same folder, a
chat finds there what a test has compiled, and the other way round.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mlc_llm.library.cache import LibraryCache
from mlc_llm.library.jit import JITProvider
from mlc_llm.plugin import Architecture, Device, LibraryRequest, Plan
from mlc_llm.registry.registry import default_registry
from mlc_llm.testing.registry import registry_of

if TYPE_CHECKING:
    import pytest

RUN_VARIABLE = "MLC_LLM_TEST_RUN"
"""The environment variable by which a pytest that a test starts takes part in the run around it."""


def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this pytest run, the same one in all workers of pytest-xdist.

    Args:
        tmp_path_factory: pytest's fixture of that name.
    """
    if around := os.environ.get(RUN_VARIABLE):
        return Path(around)
    base = tmp_path_factory.getbasetemp()
    # A worker's folder lies in the folder of the run.
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return root / "mlc_llm-run"


def run_libraries(tmp_path_factory: pytest.TempPathFactory) -> LibraryCache:
    """The libraries of this run."""
    return LibraryCache(run_folder(tmp_path_factory) / "libraries")


def effective(opt: str, plan: Plan) -> str:
    """Compilation options without one that changes nothing, so that more libraries are shared.

    Args:
        opt: the options.
        plan: how the weights are stored; activations are only rounded for quantised ones.
    """
    quantised = not all(scheme.is_float for scheme in plan.all_schemes())
    return opt if quantised or not opt.startswith("activations=") else ""


def compiled_once(cache: LibraryCache, key: str, write: Callable[[Path], object]) -> Path:
    """The library of a key, which the first process that asks for it compiles.

    Args:
        cache: where it is kept.
        key: names all that its code depends on within the run.
        write: compiles it, and writes it to the path that it is given.

    Returns:
        The library's file, which must not be changed.
    """
    path = cache.path(key)
    with cache.locked(key):
        if cache.problem(path) is not None:
            with cache.workspace(key) as folder:
                write(folder / path.name)
                cache.publish(folder / path.name, key)
    return path


def library_once(
    cache: LibraryCache, request: LibraryRequest, architecture: Architecture, device: Device
) -> Path:
    """The library that a request asks for, compiled in this process where it is not in the cache.

    Args:
        cache: where it is kept.
        request: what is compiled.
        architecture: the architecture that the request names; it need not be installed.
        device: the device, likewise.

    Raises:
        CompileError: it cannot be compiled.
        ConfigError: a compilation option is unknown.
    """

    def write(path: Path) -> None:
        from mlc_llm.compile import compile_library

        compile_library(request.spec, architecture, device, request.target, path)

    return compiled_once(cache, library_key(request, architecture, device), write)


def library_key(request: LibraryRequest, architecture: Architecture, device: Device) -> str:
    """The JIT provider's key; for plugins that are not installed, their classes are in it, too."""
    installed = default_registry()
    if (
        architecture.name in installed.names("architecture")
        and installed.architecture(architecture.name) is architecture
        and device.name in installed.names("device")
        and installed.device(device.name) is device
    ):
        return JITProvider(registry=installed).key(request)
    registry = registry_of(
        devices={device.name: device}, architectures={architecture.name: architecture}
    )
    classes = [f"{type(one).__module__}:{type(one).__qualname__}" for one in (architecture, device)]
    name = hashlib.sha256(" ".join(classes).encode()).hexdigest()[:12]
    return f"{JITProvider(registry=registry).key(request)}-{name}"
