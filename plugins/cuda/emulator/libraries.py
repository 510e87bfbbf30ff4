"""Builds the libraries that stand for a driver, CUDA's runtime, NVRTC and nvFatbin."""

from __future__ import annotations

import sys
from pathlib import Path

from toolchain import HERE, cache_folder, cuda_headers, digest, made_once, run_compiler

RUNTIME, DRIVER = "libcudart.so.13", "libcuda.so.1"
NVRTC, FATBIN = "libnvrtc.so.13", "libnvfatbin.so.13"


def preload() -> str:
    """What LD_PRELOAD must be; the libraries are built where they are not there yet."""
    sources = [
        *HERE.glob("src/*"),
        HERE / "include" / "threads.h",
        HERE / "include" / "ptx.h",
        *HERE.glob("*.py"),
    ]
    folder = made_once(cache_folder() / "libraries" / digest(sources), _build)
    return " ".join(str(folder / name) for name in (RUNTIME, DRIVER, NVRTC, FATBIN))


def _build(folder: Path) -> None:
    sources = {file.name: file for file in HERE.glob("src/*.cc")}
    loader, nvrtc = sources.pop("loader.cc"), sources.pop("nvrtc.cc")
    fatbin = sources.pop("nvfatbin.cc")
    # TVM asks for the functions of libcudart.so.13 by a version of that name. The driver's are in
    # it, too, since both are one GPU.
    versions = folder / "versions"
    versions.write_text(f"{RUNTIME} {{ global: *; }};\n")
    _link(folder / RUNTIME, *sorted(sources.values()), f"-Wl,--version-script={versions}")
    # What programs ask of the loader has no such version, so it is in a library without.
    _link(folder / DRIVER, loader, "-Wl,--no-as-needed", folder / RUNTIME)
    compile_kernels = f'"{sys.executable}", "-Es", "{HERE / "kernel_compiler.py"}"'
    _link(folder / NVRTC, nvrtc, f"-DCOMPILE_KERNELS={compile_kernels}")
    _link(folder / FATBIN, fatbin)


def _link(library: Path, *arguments: str | Path) -> None:
    """Compile sources to a library that the loader takes for another one of its name."""
    headers = (f"-I{HERE / 'include'}", *cuda_headers())
    name = f"-Wl,-soname,{library.name}"
    run_compiler("-O2", "-shared", *headers, *arguments, name, "-o", library)
