"""Gives TVM its Vulkan devices; called by ``import tvm`` through the entry point ``tvm.backends``.

The compiled library beside this file registers them. Nothing is opened here but that library: the
Vulkan loader and wgpu-native wait until a device is asked for.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tvm

LIBRARIES = {"win32": "mlc_llm_vulkan.dll", "darwin": "libmlc_llm_vulkan.dylib"}
"""The compiled library's name by ``sys.platform``; elsewhere it is :data:`ELF_LIBRARY`."""
ELF_LIBRARY = "libmlc_llm_vulkan.so"

WGPU_LIBRARIES = {
    "win32": "wgpu_native-release.dll",
    "darwin": "libwgpu_native-release.dylib",
}
"""wgpu-native's name in the package ``wgpu``; elsewhere it is :data:`ELF_WGPU_LIBRARY`."""
ELF_WGPU_LIBRARY = "libwgpu_native-release.so"

problem = ""
"""Why TVM has no Vulkan devices from here, when :func:`load` failed."""


class BackendError(Exception):
    """TVM cannot be given Vulkan devices; the text says why."""


def load() -> None:
    """Register the Vulkan devices with TVM, unless it has its own.

    A failure raises nothing, since it must not disturb ``import tvm`` in a program that wants
    another device; it is kept in :data:`problem`.
    """
    global problem
    from tvm_ffi import get_global_func

    if get_global_func("device_api.vulkan", allow_missing=True) is not None:
        return
    try:
        register(find_library(), find_wgpu())
    except (BackendError, OSError) as error:
        problem = str(error)
        return
    register_detector()


def find_library() -> Path:
    """The compiled library.

    Raises:
        BackendError: it is not there.
    """
    from mlc_llm_vulkan import __path__ as folders

    name = LIBRARIES.get(sys.platform, ELF_LIBRARY)
    # An editable install has the Python files in one folder, and the library in another.
    for folder in folders:
        path = Path(folder) / name
        if path.is_file():
            return path
    raise BackendError(
        f"mlc-llm-vulkan's library {name} is missing (looked in {', '.join(folders)}); "
        "install mlc-llm-vulkan again"
    )


def find_wgpu() -> Path:
    """wgpu-native in the package ``wgpu``, which is not imported.

    Raises:
        BackendError: it is not there.
    """
    spec = importlib.util.find_spec("wgpu")
    if spec is None or spec.origin is None:
        raise BackendError("the package wgpu is not installed; install mlc-llm-vulkan again")
    name = WGPU_LIBRARIES.get(sys.platform, ELF_WGPU_LIBRARY)
    path = Path(spec.origin).parent / "resources" / name
    if not path.is_file():
        raise BackendError(
            f"the package wgpu has no {path.name} in {path.parent}; install it again"
        )
    return path


def register(library: Path, wgpu: Path) -> None:
    """Load the compiled library, and have it register with TVM.

    Raises:
        OSError: the library cannot be loaded.
        BackendError: it cannot register.
    """
    function = ctypes.CDLL(str(library)).mlc_llm_vulkan_register
    function.argtypes = [ctypes.c_char_p]
    function.restype = ctypes.c_char_p
    failure = function(str(wgpu).encode())
    if failure is not None:
        raise BackendError(failure.decode(errors="replace"))


def register_detector() -> None:
    """Let ``Target.from_device("vulkan")`` work, where TVM's compiler is loaded."""
    if "tvm.target" not in sys.modules:
        return
    from tvm.target.detect_target import register_device_target_detector

    register_device_target_detector("vulkan", detect_target)


def detect_target(device: Any) -> tvm.target.Target:
    """The target for kernels that run on a device of this backend.

    Args:
        device: TVM's device.
    """
    import tvm

    return tvm.target.Target(
        {
            "kind": "webgpu",
            "target_device_type": 7,
            "max_num_threads": min(256, device.max_threads_per_block),
            "max_shared_memory_per_block": device.max_shared_memory_per_block,
        }
    )
