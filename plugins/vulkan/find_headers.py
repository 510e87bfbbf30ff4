"""Print what the build needs of installed packages, as ``name=path;path`` lines for CMake.

The packages are found without being imported, which would load TVM.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path


def package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"The build needs the package {name}, which is not installed.")
    return Path(spec.origin).parent


def main() -> None:
    tvm, tvm_ffi, wgpu = package("tvm"), package("tvm_ffi"), package("wgpu")
    headers = (tvm / "include", tvm_ffi / "include", wgpu / "resources")
    libraries = (tvm / "lib", tvm_ffi / "lib")
    print("headers=" + ";".join(path.as_posix() for path in headers))
    print("libraries=" + ";".join(path.as_posix() for path in libraries))


if __name__ == "__main__":
    main()
