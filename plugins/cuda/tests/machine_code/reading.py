"""What NVIDIA's compiler makes of a kernel, without a GPU."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARCHITECTURES = ("80", "90")
MEMORY = ("LDG", "STG", "LDGSTS", "LDS", "STS", "LDL", "STL")
"""Instructions that access memory, and have a width: global (`LDGSTS` copies to shared memory),
shared, and local for spills."""

PROGRAM = f"""
import sys
from pathlib import Path
import tvm
from tvm_ffi import register_global_func
from mlc_llm_cuda import DEVICE, compilation
target = DEVICE.target_for({ARCHITECTURES})
DEVICE.codegen(target, {{}})
@register_global_func(compilation.CALLBACK, override=True)
def keep(source):
    code = compilation.machine_code(source, ["sm_" + one for one in {ARCHITECTURES}])
    Path(sys.argv[2]).write_bytes(code)
    return code
target = tvm.target.Target(target, host={{"kind": "llvm"}})
with target:
    tvm.compile(tvm.ir.load_json(Path(sys.argv[1]).read_text()), target)
"""


@dataclass(frozen=True)
class MachineCode:
    """A kernel as it was compiled for one architecture.

    Args:
        registers: of a thread.
        spilled: bytes of a thread that do not fit into its registers.
        instructions: how many there are of each; those that access memory with their bits, as
            ``LDG.128``.
    """

    registers: int
    spilled: int
    instructions: Counter[str]


def machine_code(
    kernel: Any, cuobjdump: Callable[..., str], folder: Path
) -> dict[tuple[str, str], MachineCode]:
    """The kernels of a PrimFunc, by their architectures (``sm_80``) and names.

    Args:
        kernel: the PrimFunc.
        cuobjdump: runs NVIDIA's tool.
        folder: an empty folder.
    """
    import tvm

    text, file = folder / "kernel.json", folder / "kernel.fatbin"
    text.write_text(tvm.ir.save_json(kernel))
    subprocess.run([sys.executable, "-c", PROGRAM, str(text), str(file)], check=True)
    used = _per_kernel(cuobjdump("--dump-resource-usage", file), r"Function (\w+):")
    code = _per_kernel(cuobjdump("--dump-sass", file), r"Function : (\w+)")
    return {key: _described(used[key], code[key]) for key in code}


def _per_kernel(output: str, name: str) -> dict[tuple[str, str], str]:
    """The lines after each kernel's name, by architecture and name."""
    parts = re.split(rf"arch = (sm_\d+)|{name}", output)
    found, architecture = {}, ""
    for seen, kernel, lines in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        architecture = seen or architecture
        if kernel:
            found[architecture, kernel] = lines
    return found


def _described(usage: str, listing: str) -> MachineCode:
    sizes = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    opcodes = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", listing, re.M)
    spilled = sizes.get("STACK", 0) + sizes.get("LOCAL", 0)
    return MachineCode(sizes["REG"], spilled, Counter(map(_kind, opcodes)))


def _kind(opcode: str) -> str:
    kind, *modifiers = opcode.split(".")
    if kind not in MEMORY:
        return kind
    bits = next((m.lstrip("US") for m in modifiers if m.lstrip("US") in _WIDTHS), "32")
    return f"{kind}.{bits}"


_WIDTHS = ("8", "16", "64", "128")
