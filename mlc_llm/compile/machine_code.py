"""From a lowered module to machine code, several kernels at once.

TVM's passes over kernels and LLVM take most of the time that a library takes to compile, and work
on a module with one thread. So each of the CPU's kernels becomes a module and an object file of its
own. Threads do for that: TVM lets go of Python's lock while it compiles.

``relax.build`` would do it all in one. Its halves, which are taken here, have no public names;
TVM's version is pinned.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import tvm
from tvm import relax, tirx
from tvm.relax.vm_build import _vmcodegen, _vmlink

from mlc_llm.compile.kernel_pipeline import kernel_pipeline
from mlc_llm.errors import CompileError

_MOST_THREADS = 8
"""The longest of some thirty kernels takes an eighth of all, so that more would wait for it."""


def generate_code(
    module: tvm.IRModule, target: tvm.target.Target, folder: Path
) -> tuple[relax.VMExecutable, list[Path]]:
    """Generate the code of a library; it is the same however many CPUs there are.

    Args:
        module: the virtual machine's functions and the kernels that they call.
        target: what the kernels are for. Those of a GPU stay together, in the executable.
        folder: an existing folder for object files.

    Returns:
        The executable, and the object files to link it with.

    Raises:
        CompileError: no code can be generated, for a kernel mostly.
        RuntimeError: an object file cannot be written.
    """
    builder = relax.ExecBuilder()
    with _named("the library's functions"):
        functions = _vmcodegen(builder, module).functions_items()
    kernels = [(name, body) for name, body in functions if isinstance(body, tirx.PrimFunc)]
    pipeline = kernel_pipeline(target)

    def compiled_apart(kernel: tuple[tvm.ir.GlobalVar, tirx.PrimFunc]) -> Path:
        name = kernel[0].name_hint
        path = folder / f"{name}.o"
        with _named(f"the kernel {name}"):
            built = tirx.build(tvm.IRModule(dict([kernel])), target=target, pipeline=pipeline)
        built.write_to_file(str(path))
        return path

    # TVM would compile C code in place of an executable that has no kernel at all.
    together = 1 if target.kind.name == "llvm" else len(kernels)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS)) as pool:
        objects = pool.map(compiled_apart, kernels[together:])
        rest = tvm.IRModule(dict(kernels[:together]))
        with _named("a kernel of the library"):
            executable = _vmlink(builder, target, rest, tir_pipeline=pipeline)
        return executable, list(objects)


@contextmanager
def _named(part: str) -> Iterator[None]:
    """Turn what TVM raises into our error, which names the part of the library."""
    try:
        yield
    except Exception as error:
        raise CompileError(
            f"Code cannot be generated for {part}: {error}\nThis is a fault of mlc_llm, or of "
            "the plugin that brings the device or the architecture. Please report it.",
            code="code-not-generated",
        ) from error
