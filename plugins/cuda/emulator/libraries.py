"""Builds the libraries that stand for a driver, CUDA's runtime and NVRTC."""

from __future__ import annotations

import sys
from pathlib import Path

from toolchain import HERE, cache_folder, cuda_headers, digest, made_once, run_compiler

RUNTIME, DRIVER, NVRTC = "libcudart.so.13", "libcuda.so.1", "libnvrtc.so.13"


def preload() -> str:
    """What LD_PRELOAD must be; the libraries are built where they are not there yet."""
    sources = [
        *HERE.glob("src/*"),
        HERE / "include" / "threads.h",
        HERE / "include" / "ptx.h",
        *HERE.glob("*.py"),
    ]
    folder = made_once(cache_folder() / "libraries" / digest(sources), _build)
    return " ".join(str(folder / name) for name in (RUNTIME, DRIVER, NVRTC))


def _build(folder: Path) -> None:
    compile_kernels = f'"{sys.executable}", "-Es", "{HERE / "kernel_compiler.py"}"'
    options = ["-O2", "-shared", f"-I{HERE / 'include'}", *cuda_headers()]
    sources = set(HERE.glob("src/*.cc")) - {
        HERE / "src" / name for name in ("loader.cc", "nvrtc.cc")
    }
    # TVM asks for the functions of libcudart.so.13 by a version of that name. The driver's are in
    # it, too, since both are one GPU.
    versions = folder / "versions"
    versions.write_text(f"{RUNTIME} {{ global: *; }};\n")
    run_compiler(
        *(*options, *sorted(sources)),
        *(f"-Wl,--version-script={versions},-soname,{RUNTIME}", "-o", folder / RUNTIME),
    )
    # What programs ask of the loader has no such version, so it is in a library without.
    run_compiler(
        *(*options, HERE / "src" / "loader.cc", "-Wl,--no-as-needed", folder / RUNTIME),
        *(f"-Wl,-soname,{DRIVER}", "-o", folder / DRIVER),
    )
    run_compiler(
        *(*options, f"-DCOMPILE_KERNELS={compile_kernels}", HERE / "src" / "nvrtc.cc"),
        *(f"-Wl,-soname,{NVRTC}", "-o", folder / NVRTC),
    )
