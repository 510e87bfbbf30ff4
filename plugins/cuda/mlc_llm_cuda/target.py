"""What code is compiled for, and which libraries run on which GPU.

A library has machine code for some compute capabilities and may have PTX, which the driver
compiles when it loads it. A TVM target says which in its ``keys``: ``sm_86`` is machine code for
8.6, ``compute_90`` is PTX for 9.0 and newer. Its ``arch`` is the capability that kernels are chosen
for: the oldest of them.

Machine code runs on GPUs of the same major version whose minor version is not lower; that of
Jetson's GPUs, and for them, only where both agree. PTX runs on everything that is not older. (CUDA
C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility".)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlc_llm.errors import DeviceError
from mlc_llm.plugin import LibraryRecord
from mlc_llm.shown import shown

CAPABILITIES = (75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121)
"""What NVRTC 13.0 compiles for: compute capabilities without the point."""
OLDEST = CAPABILITIES[0]
EMBEDDED = (87, 88, 110)
"""Those of Jetson's GPUs."""

MACHINE_CODE, PTX = "sm_", "compute_"
"""What the names of the two kinds of code begin with."""

LIMITS = {
    "max_threads_per_block": 1024,
    "max_shared_memory_per_block": 49152,
    "thread_warp_size": 32,
}
"""What every GPU allows; more shared memory has to be asked for at each launch."""


def target_of(capability: int) -> dict[str, Any]:
    """The TVM target for one GPU: machine code for it, PTX where it is newer than the compiler.

    Args:
        capability: its compute capability without the point.
    """
    known = [one for one in CAPABILITIES if _runs(f"{MACHINE_CODE}{one}", capability)]
    newest = max(one for one in CAPABILITIES if one <= capability)
    code = f"{MACHINE_CODE}{max(known)}" if known else f"{PTX}{newest}"
    return _target(capability, [code])


def target_for(names: Sequence[str]) -> dict[str, Any]:
    """The TVM target for GPUs that need not be here: machine code for each, PTX for the newest.

    Args:
        names: compute capabilities as the user writes them: ``86``, ``8.6`` or ``sm_86``.

    Raises:
        DeviceError: the compiler does not know one.
    """
    wanted = sorted({_capability(name) for name in names})
    code = [f"{MACHINE_CODE}{one}" for one in wanted]
    return _target(wanted[0], [*code, f"{PTX}{wanted[-1]}"])


def code_of(target: Mapping[str, Any]) -> list[str]:
    """What a target asks for, such as ``["sm_80", "sm_90", "compute_90"]``.

    Args:
        target: a TVM target of ours; of any other the answer is empty.
    """
    return [key for key in map(str, target.get("keys", ())) if key.startswith((MACHINE_CODE, PTX))]


def capability_of(target: Mapping[str, Any]) -> int:
    """The compute capability, without the point, that a target's kernels are chosen for."""
    return _number(str(target["arch"]))


def mismatch(record: LibraryRecord, target: Mapping[str, Any]) -> str | None:
    """Why a library cannot run on the GPU of a target, or None when it can.

    Args:
        record: the library's record.
        target: the GPU's target.
    """
    capability = capability_of(target)
    code = code_of(record.target)
    if any(_runs(one, capability) for one in code):
        return None
    has = ", ".join(f"{_kind(one)} for {dotted(_number(one))}" for one in code) or "no code"
    return (
        f"it has {has}, and the compute capability of this GPU is {dotted(capability)}; compile "
        f"one with `mlc_llm compile --arch {capability}`"
    )


def dotted(capability: int) -> str:
    """A compute capability as it is written."""
    return f"{capability // 10}.{capability % 10}"


def _target(capability: int, code: Sequence[str]) -> dict[str, Any]:
    keys = ["cuda", "gpu", *code]
    return {"kind": "cuda", "keys": keys, "arch": f"{MACHINE_CODE}{capability}", **LIMITS}


def _capability(name: str) -> int:
    text = name.strip().removeprefix(MACHINE_CODE).replace(".", "")
    if text not in map(str, CAPABILITIES):
        known = ", ".join(map(str, CAPABILITIES))
        raise DeviceError(
            f"The device 'cuda' does not compile for the GPU architecture {shown(name)}. Give "
            f"compute capabilities among {known}; `mlc_llm devices` shows that of a GPU that is "
            "here.",
            code="arch-unknown",
        )
    return int(text)


def _runs(code: str, capability: int) -> bool:
    """Whether code runs on a GPU."""
    number = _number(code)
    if code.startswith(PTX):
        return OLDEST <= number <= capability
    if number == capability:
        return True
    if number in EMBEDDED or capability in EMBEDDED:
        return False
    return number // 10 == capability // 10 and number <= capability


def _number(code: str) -> int:
    """The compute capability in a name such as ``sm_86``; 0, which no GPU has, in any other."""
    digits = code.removeprefix(MACHINE_CODE).removeprefix(PTX)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 4 else 0


def _kind(code: str) -> str:
    return "PTX" if code.startswith(PTX) else "machine code"
