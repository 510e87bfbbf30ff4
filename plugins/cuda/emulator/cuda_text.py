"""CUDA C, as NVRTC takes it, made into C++ that g++ takes beside ``cuda_vocabulary.h``.

Little must be changed, and the lines keep their numbers: where shared memory has no size, it is the
launch's; and the linker must find each kernel, and the shared memory of each.
"""

from __future__ import annotations

import re

from ptx_text import without_asm

KERNEL = re.compile(
    r"""^[ \t]*extern[ ]"C"\s+__global__\s+void\s+
    (?:__launch_bounds__\(\s*(?P<threads>\d+)[^)]*\)\s*)?(?P<name>\w+)\s*\(""",
    re.MULTILINE | re.VERBOSE,
)
DYNAMIC_SHARED = re.compile(
    r"extern\s+__shared__\s+((?:alignas|__align__)\(\d+\)\s+)?(?P<type>[\w:]+)\s+"
    r"((?:alignas|__align__)\(\d+\)\s+)?(?P<name>\w+)\[\]"
)


def host_text(cuda: str, architecture: str, checked: bool) -> str:
    """The text for g++.

    Args:
        cuda: the text of the kernels.
        architecture: what it is compiled for: ``sm_90``, ``compute_90``.
        checked: whether the kernels announce their accesses to memory.
    """
    threads = {found["name"]: found["threads"] or "0" for found in KERNEL.finditer(cuda)}
    text = KERNEL.sub(lambda found: _own_section(cuda, found), cuda)
    text = DYNAMIC_SHARED.sub(
        r"static \g<type>* const \g<name> = reinterpret_cast<\g<type>*>(gpu_dynamic_shared)", text
    )
    text = without_asm(text)
    version = re.sub(r"\D", "", architecture)
    return "\n".join(
        [
            f"#define __CUDA_ARCH__ {version}0",
            '#line 1 "kernels.cu"',
            text,
            f'GPU_ARCHITECTURE("{architecture}")',
            *(f"GPU_KERNEL({name}, {most})" for name, most in threads.items()),
            "",
        ]
    )


def _own_section(cuda: str, kernel: re.Match[str]) -> str:
    """The beginning of a kernel, before which a section for its shared memory is named."""
    line = cuda.count("\n", 0, kernel.start()) + 1
    return (
        f'\n#undef GPU_KERNEL_NAME\n#define GPU_KERNEL_NAME "{kernel["name"]}"\n'
        f"#line {line}\n{kernel[0]}"
    )
