"""Functions in CUDA C, called within kernels of TVM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tvm.backend.cuda.op import cuda_func_call
from tvm.script.ir_builder import tirx as T

from mlc_llm.compile.gpu.kernels.launch import Buffer, Expr, i32
from mlc_llm.compile.kernel import Frame

_FOLDER = Path(__file__).parent

C_TYPES = {"float16": "half", "float32": "float"}
"""What the dtypes of tensors are called in CUDA C."""


def call(name: str, arguments: Mapping[str, Expr], body: str, files: Sequence[str]) -> None:
    """Emit a call of a function, within a launch.

    TVM puts its text before the kernels, once for each function. Guards keep the files that several
    functions need from being there twice.

    Args:
        name: the function's name, which says all that its body depends on.
        arguments: what it is called with, by its parameters as C declares them: ``const int* x``.
        body: its statements.
        files: the files that it needs, each after those that it needs itself.
    """
    parameters = ", ".join(arguments)
    function = f"__device__ __forceinline__ void {name}({parameters}) {{\n  {body}\n}}\n"
    parts = {file.replace(".", "_"): (_FOLDER / file).read_text() for file in files}
    text = "\n".join(_guarded(*part) for part in [*parts.items(), (name, function)])
    T.evaluate(cuda_func_call(name, *arguments.values(), source_code=text))


def resident(blocks: int) -> Frame:
    """Has NVRTC make code of which `blocks` blocks fit onto a multiprocessor at once.

    They share its registers: otherwise NVRTC chooses how many a thread has, and may spill the rest.
    """
    return T.attr(i32(0), "tirx.launch_bounds_min_blocks_per_sm", i32(blocks))


def start(view: Buffer) -> Expr:
    """The address of a tensor that may begin within its storage."""
    return T.address_of(view[(i32(0),) * len(view.shape)])


def _guarded(name: str, text: str) -> str:
    """Text that counts once."""
    return f"#ifndef MLC_LLM_{name}\n#define MLC_LLM_{name}\n{text}#endif\n"
