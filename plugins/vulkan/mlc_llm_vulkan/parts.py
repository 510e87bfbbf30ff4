"""The parts that the device is made of: TVM, wgpu-native, and the native library between them."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlc_llm.plugin import Unavailable
from mlc_llm.plugin.packages import package_folders, tvm_has_runtime
from mlc_llm_vulkan import backend
from mlc_llm_vulkan.adapters import NativeAdapter, parse_adapters

DISTRIBUTION = "mlc-llm-vulkan"
AUTOLOAD_VARIABLE = "TVM_DEVICE_BACKEND_AUTOLOAD"
REINSTALL = f"Reinstall it: python -m pip install --force-reinstall {DISTRIBUTION}"


def require_stock_tvm() -> None:
    """Refuse a TVM that brings a Vulkan of its own, beside which ours keeps out of the way."""
    if tvm_has_runtime("vulkan"):
        raise Unavailable(
            "the installed TVM has a Vulkan of its own, beside which mlc-llm-vulkan does nothing",
            "Install apache-tvm from PyPI.",
        )


def require_wgpu() -> None:
    """Refuse where wgpu-native is not installed, or is not the version that is built for."""
    wanted = wanted_wgpu()
    remedy = f"Install it: python -m pip install wgpu{wanted}"
    try:
        found = importlib.metadata.version("wgpu")
    except importlib.metadata.PackageNotFoundError:
        raise Unavailable("the package wgpu, which it runs on, is not installed", remedy) from None
    if wanted.startswith("==") and found != wanted.removeprefix("=="):
        raise Unavailable(
            f"the package wgpu is version {found}, and mlc-llm-vulkan is built for "
            f"{wanted.removeprefix('==')}",
            remedy,
        )
    if not any(wgpu_libraries()):
        raise Unavailable(
            "the package wgpu has no wgpu-native library", f"Reinstall it: pip install wgpu{wanted}"
        )


def wanted_wgpu() -> str:
    """The version of wgpu that this distribution asks for, as in ``==1.2.3``; empty if unknown."""
    try:
        requirements = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    return next((text[4:].strip() for text in requirements if text.startswith("wgpu")), "")


def wgpu_libraries() -> Iterator[Path]:
    """wgpu-native's shared library, in the package's resources."""
    for folder in package_folders("wgpu"):
        yield from folder.glob("resources/*wgpu_native*.*")


def native_adapters() -> list[NativeAdapter]:
    """The adapters, as the native library finds them; imports TVM, which loads that library."""
    import tvm  # noqa: F401
    from tvm_ffi import get_global_func

    find = get_global_func("mlc_llm_vulkan.adapters", allow_missing=True)
    if find is None and os.environ.get(AUTOLOAD_VARIABLE) == "0":
        raise Unavailable(
            f"{AUTOLOAD_VARIABLE}=0 keeps TVM from loading backends such as this one",
            f"Unset {AUTOLOAD_VARIABLE}.",
        )
    if find is None:
        raise Unavailable(
            f"TVM could not load its library ({backend.problem or 'no reason given'})", REINSTALL
        )
    try:
        with _without_desktop():
            found = find()
    except Exception as error:  # It says what to do.
        raise Unavailable(f"wgpu-native cannot be used ({error})") from error
    try:
        return parse_adapters(found)
    except Exception as error:
        raise Unavailable(f"wgpu-native cannot be used ({error})", REINSTALL) from error


@contextmanager
def _without_desktop() -> Iterator[None]:
    """Keep Mesa's layer that asks the desktop for its GPU from complaining that there is none.

    It reads the variable while adapters are looked for; afterwards the environment is as it was.
    """
    name = "NODEVICE_SELECT"
    if os.environ.get("XDG_RUNTIME_DIR") or name in os.environ:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name, None)
