"""Compiles CUDA C to machine code for the emulated GPU: a shared library.

``libnvrtc.so.13`` of the emulator runs it, as a program:
``python kernel_compiler.py SOURCE OUTPUT ARCHITECTURE plain|checked``. What was compiled once is
taken from the cache.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from cuda_text import host_text
from toolchain import HERE, cache_folder, cuda_headers, digest, made_once, run_compiler

# Libraries of kernels have functions of the same names, and each must have its own.
KERNEL_FLAGS = [
    *("-O1", "-w", "-fvisibility=hidden", "-fno-gnu-unique", "-fno-threadsafe-statics"),
    "-fsanitize=alignment",
]
CHECKED_FLAGS = [
    *("-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0"),
    # What is read to be passed by value, as a half to a conversion, is announced only where the
    # function is inlined.
    *("-finline-small-functions", "-finline-functions", "--param=early-inlining-insns=3000"),
]
HEADERS = HERE / "include"


def compile_kernels(cuda: str, architecture: str, checked: bool) -> Path:
    """Compile kernels; returns the library. Raises CalledProcessError, after g++ has said why.

    Args:
        cuda: their text.
        architecture: ``sm_90``, or ``compute_90`` for what later GPUs run, too.
        checked: whether they announce their accesses to memory.
    """
    vocabulary = _vocabulary(checked)
    text = host_text(cuda, architecture, checked)

    def make(folder: Path) -> None:
        source, compiled = folder / "kernels.cc", folder / "kernels.o"
        (folder / "kernels.cu").write_text(cuda)
        source.write_text(text)
        run_compiler(*_flags(checked), "-include", vocabulary, "-c", source, "-o", compiled)
        # Linked apart: what accesses are announced to is the emulator, not g++'s own library.
        run_compiler("-shared", compiled, "-o", folder / "kernels.so")
        compiled.unlink()

    folder = cache_folder() / "kernels" / digest([], text, str(vocabulary))
    return made_once(folder, make) / "kernels.so"


def _vocabulary(checked: bool) -> Path:
    """The header of CUDA's words, which is compiled once for all kernels."""

    def make(folder: Path) -> None:
        header = folder / "vocabulary.h"
        header.write_text('#include "cuda_vocabulary.h"\n')
        run_compiler(*_flags(checked), "-xc++-header", header, "-o", f"{header}.gch")

    files = [*HEADERS.glob("*.h"), *HERE.glob("*.py")]
    folder = cache_folder() / "vocabulary" / digest(files, *_flags(checked))
    return made_once(folder, make) / "vocabulary.h"


def _flags(checked: bool) -> list[str]:
    own = [*KERNEL_FLAGS, f"-DGPU_CHECKED={int(checked)}", f"-I{HEADERS}", *cuda_headers()]
    return own + CHECKED_FLAGS * checked


def main() -> int:
    source, output, architecture, checked = sys.argv[1:]
    try:
        library = compile_kernels(Path(source).read_text(), architecture, checked == "checked")
    except subprocess.CalledProcessError:
        return 1
    shutil.copyfile(library, output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
