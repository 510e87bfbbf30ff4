"""What NVIDIA's compiler makes of kernels, without a GPU: of one, and of a whole model's.

``python -m benchmarks.gpu.machine_code`` is the child process that compiles: TVM and NVRTC are in
it alone. Each line that it reads is a JSON list,

    ["kernel", "KERNEL.json", "OUTPUT"]
    ["model", "CONFIG.json", "OUTPUT", "ARCHITECTURE", ...]

and it answers with a line when the output is written.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]

ARCHITECTURES = ("80", "90")
MEMORY = ("LDG", "STG", "LDS", "STS", "LDL", "STL")
"""Instructions that access memory, and have a width: global, shared, and local for spills."""
ASYNCHRONOUS = "LDGSTS"
"""A copy from global to shared memory, ``cp.async``; it has a width, too."""


@dataclass(frozen=True)
class MachineCode:
    """A kernel as it was compiled for one architecture.

    Args:
        registers: of a thread.
        spilled: bytes of a thread that do not fit into its registers.
        instructions: how many there are of each; those that access memory with their bits, as
            ``LDG.128``.
        begun: those before the first barrier.
        loop: those of the loop with most products of matrices; none where there is no such loop.
    """

    registers: int
    spilled: int
    instructions: Counter[str]
    begun: Counter[str]
    loop: Counter[str]

    @property
    def length(self) -> int:
        """How many instructions it has."""
        return self.instructions.total()

    @property
    def loaded(self) -> int:
        """Bytes of global memory that a thread loads if each instruction runs once."""
        loads = ("LDG.", f"{ASYNCHRONOUS}.")
        return sum(
            int(kind.partition(".")[2]) // 8 * count
            for kind, count in self.instructions.items()
            if kind.startswith(loads)
        )


class Compiler:
    """Compiles kernels, in a process that starts when it is first needed; a context manager.

    Args:
        cuobjdump: runs NVIDIA's tool.
    """

    def __init__(self, cuobjdump: Callable[..., str]) -> None:
        self._cuobjdump = cuobjdump
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def kernel(self, kernel: Any, folder: Path) -> dict[tuple[str, str], MachineCode]:
        """The kernels of a PrimFunc, by their architectures (``sm_80``) and names.

        Args:
            kernel: the PrimFunc.
            folder: an empty folder.
        """
        import tvm

        text, file = folder / "kernel.json", folder / "kernel.fatbin"
        text.write_text(tvm.ir.save_json(kernel))
        self._compile("kernel", text, file)
        return described(file, self._cuobjdump)

    def model(
        self, config: dict[str, Any], architectures: Sequence[str], folder: Path
    ) -> dict[tuple[str, str], MachineCode]:
        """The kernels of a model's library, by their architectures and names.

        Args:
            config: the content of ``mlc-chat-config.json``.
            architectures: compute capabilities; kernels are chosen for the oldest.
            folder: an empty folder.
        """
        text, file = folder / "config.json", folder / "kernels.fatbin"
        text.write_text(json.dumps(config), encoding="utf-8")
        self._compile("model", text, file, *architectures)
        return described(file, self._cuobjdump)

    def _compile(self, *request: str | Path) -> None:
        """Have something compiled. Raises CalledProcessError, after the process has said why."""
        self._process = process = self._process or _child()
        assert process.stdin is not None
        assert process.stdout is not None
        answer = ""
        try:
            process.stdin.write(json.dumps([str(word) for word in request]) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        finally:
            if not answer:  # It has ended, or this was interrupted, and a later answer is stale.
                self._end()
        if not answer:
            raise subprocess.CalledProcessError(process.returncode, process.args)

    def _end(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            with process:
                process.kill()


def _child() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.gpu.machine_code"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def described(file: Path, cuobjdump: Callable[..., str]) -> dict[tuple[str, str], MachineCode]:
    """The kernels in a file of machine code, by their architectures and names.

    Args:
        file: a cubin, or a fatbin of several.
        cuobjdump: runs NVIDIA's tool.
    """
    used = _per_kernel(cuobjdump("--dump-resource-usage", file), r"Function (\w+):")
    code = _per_kernel(cuobjdump("--dump-sass", file), r"Function : (\w+)")
    return {key: _described(used[key], code[key]) for key in code}


def run_cuobjdump(*arguments: str | Path) -> str:
    """What NVIDIA's tool, of the package nvidia-cuda-cuobjdump, writes.

    Raises:
        FileNotFoundError: it is not installed.
    """
    from mlc_llm_cuda.toolkit import toolkit_folders

    tools = (folder / "bin" / "cuobjdump" for folder in toolkit_folders())
    tool = next((path for path in tools if path.exists()), None)
    if tool is None:
        raise FileNotFoundError("the package nvidia-cuda-cuobjdump is not installed")
    command = [str(tool), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


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
    lines = re.findall(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([^;]*);", listing, re.M)
    code = [(int(place, 16), _kind(text.split()[0]), text) for place, text in lines]
    # A kernel's text is padded with these after its end.
    kinds = [kind for _, kind, _ in code if kind != "NOP"]
    spilled = sizes.get("STACK", 0) + sizes.get("LOCAL", 0)
    before = kinds[: kinds.index("BAR")] if "BAR" in kinds else []
    return MachineCode(sizes["REG"], spilled, Counter(kinds), Counter(before), _loop(code))


def _loop(code: list[tuple[int, str, str]]) -> Counter[str]:
    """The loop with most products of matrices, in code as (place, kind, text)."""
    loops = [Counter[str]()]
    for end, kind, text in code:
        target = re.search(r"0x([0-9a-f]+)\s*$", text)
        if kind == "BRA" and target and (begin := int(target[1], 16)) < end:
            loops.append(Counter(kind for place, kind, _ in code if begin <= place <= end))
    return max(loops, key=lambda one: one["HMMA"])


def _kind(opcode: str) -> str:
    kind, *modifiers = opcode.split(".")
    if kind not in (*MEMORY, ASYNCHRONOUS):
        return kind
    bits = next((m.lstrip("US") for m in modifiers if m.lstrip("US") in _WIDTHS), "32")
    return f"{kind}.{bits}"


_WIDTHS = ("8", "16", "64", "128")


class _HaveText(Exception):
    """The text of the kernels is known, and the rest of a library is not needed."""


def _compile_kernel(text: Path) -> tuple[str, Sequence[str]]:
    """The CUDA C of a PrimFunc."""
    import tvm
    from mlc_llm_cuda import DEVICE

    target = DEVICE.target_for(ARCHITECTURES)
    full = tvm.target.Target(target, host={"kind": "llvm"})
    DEVICE.codegen(target, {})
    kernel = tvm.ir.load_json(text.read_text())

    def build() -> None:
        with full:
            tvm.compile(kernel, full)

    return _text(build), ARCHITECTURES


def _compile_model(config: Path, architectures: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The CUDA C of a model's library."""
    from mlc_llm_cuda import DEVICE

    from mlc_llm.compile.build import lower, with_host
    from mlc_llm.compile.machine_code import generate_code
    from mlc_llm.config import ModelFile
    from mlc_llm.plugin import ModelSpec
    from mlc_llm.quantization import folder_plan
    from mlc_llm.registry.registry import default_registry

    file = ModelFile.load(config)
    architecture = default_registry().architecture(file.model_type)
    target = DEVICE.target_for(architectures)
    spec = ModelSpec.of(file, architecture, folder_plan(file))
    module = lower(spec, architecture, DEVICE, target)

    def build() -> None:
        with with_host(target) as full:
            generate_code(module, full, config.parent)

    return _text(build), architectures


def _text(build: Callable[[], None]) -> str:
    """The CUDA C that building asks to have compiled."""
    from mlc_llm_cuda import compilation
    from tvm_ffi import register_global_func

    texts: list[str] = []

    def keep(text: str) -> bytes:
        texts.append(text)
        raise _HaveText

    register_global_func(compilation.CALLBACK, keep, override=True)
    try:
        build()
    except Exception:
        if not texts:
            raise
    return texts[0]


def _answer(what: str, text: str, output: str, *architectures: str) -> None:
    """Do what a line asks for."""
    from mlc_llm_cuda.fatbin import join
    from mlc_llm_cuda.nvrtc import compile_source

    if what == "kernel":
        source, wanted = _compile_kernel(Path(text))
    else:
        source, wanted = _compile_model(Path(text), architectures)
    names = [f"sm_{one}" for one in wanted]
    # Of one alone, too: what reads it is told the architecture.
    Path(output).write_bytes(join({name: compile_source(source, name) for name in names}))


def main() -> None:
    # What TVM or NVRTC print is not an answer.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for line in sys.stdin:
            _answer(*json.loads(line))
            print("compiled", file=answers, flush=True)


if __name__ == "__main__":
    main()
