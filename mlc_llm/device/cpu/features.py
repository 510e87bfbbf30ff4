"""Which CPU this is, found without a compiler.

A library is compiled for a level of the x86-64 psABI (or the 64-bit Arm baseline) plus the few
extensions that the kernels use, not for one CPU model: it then runs on every CPU that has them, and
what it needs can be written into its record. Feature names are LLVM's.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import subprocess
import sys
from pathlib import Path

# Levels as the x86-64 psABI defines them, best first, with the features that tell them apart.
X86_LEVELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("x86-64-v4", ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")),
    ("x86-64-v3", ("avx2", "bmi", "bmi2", "f16c", "fma")),
    ("x86-64-v2", ("sse4.2",)),
    ("x86-64", ()),
)
X86_EXTENSIONS = ("avx512vnni", "avxvnni")
ARM_EXTENSIONS = ("dotprod", "fullfp16")

# What the kernels of Linux and macOS call the features, where LLVM's name is another.
_SYSTEM_NAMES = {
    "avx_vnni": "avxvnni",
    "avx512_vnni": "avx512vnni",
    "bmi1": "bmi",
    "sse4_2": "sse4.2",
    "asimddp": "dotprod",
    "asimdhp": "fullfp16",
    "feat_dotprod": "dotprod",
    "feat_fp16": "fullfp16",
}

# Windows answers by number (winnt.h, PF_*_INSTRUCTIONS_AVAILABLE).
_WINDOWS_NUMBERS = {"sse4.2": 38, "avx2": 40, "avx512f": 41, "dotprod": 43}


def is_x86() -> bool:
    """Whether this machine's CPU is a 64-bit x86."""
    return platform.machine().lower() in ("x86_64", "amd64")


@functools.cache
def host_features() -> frozenset[str]:
    """The features of this machine's CPU, as far as the system tells, by LLVM's names."""
    if sys.platform == "win32":
        return _windows_features()
    words = _macos_words() if sys.platform == "darwin" else _linux_words()
    return frozenset(_SYSTEM_NAMES.get(word, word) for word in words)


def host_target() -> dict[str, object]:
    """The TVM target of this machine's CPU."""
    features = host_features()
    if not is_x86():
        extensions = [f"+{name}" for name in ARM_EXTENSIONS if name in features]
        return {"kind": "llvm", "mcpu": "generic", "mattr": ["+neon", *extensions]}
    level = next(name for name, needed in X86_LEVELS if features.issuperset(needed))
    extensions = [f"+{name}" for name in X86_EXTENSIONS if name in features]
    if level == "x86-64-v4":
        # LLVM halves 512-bit vectors at this level unless it is told not to.
        extensions.append("-prefer-256-bit")
    return {"kind": "llvm", "mcpu": level, "mattr": extensions}


def required_features(target: dict[str, object]) -> list[str]:
    """The features that code for ``target`` needs, by LLVM's names."""
    levels = dict(X86_LEVELS)
    names = [name for name, _ in X86_LEVELS]
    level = target.get("mcpu")
    below = names[names.index(level) :] if level in names else []
    needed = {feature for name in below for feature in levels[name]}
    attributes = target.get("mattr")
    for attribute in attributes if isinstance(attributes, list) else []:
        if str(attribute).startswith("+") and attribute != "+neon":
            needed.add(str(attribute)[1:])
    return sorted(needed)


def _linux_words() -> list[str]:
    """The flags of the first CPU in /proc/cpuinfo."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return value.split()
    return []


def _macos_words() -> list[str]:
    """The features that ``sysctl`` lists: as words on x86, as switches on Apple silicon."""
    names = ["machdep.cpu.features", "machdep.cpu.leaf7_features", "hw.optional.arm"]
    answer = subprocess.run(["sysctl", *names], capture_output=True, text=True, check=False).stdout
    words: list[str] = []
    for line in answer.splitlines():
        name, _, value = line.partition(":")
        if name.startswith("hw.optional.arm."):
            words += [name.removeprefix("hw.optional.arm.").lower()] * (value.strip() == "1")
        else:
            words += [word.lower() for word in value.split()]
    return words


def _windows_features() -> frozenset[str]:
    present = ctypes.windll.kernel32.IsProcessorFeaturePresent  # type: ignore[attr-defined]
    found = {name for name, number in _WINDOWS_NUMBERS.items() if present(number)}
    # Every CPU with AVX2 has the rest of its level; what of AVX-512 there is, Windows does not say.
    if "avx2" in found:
        found.update(dict(X86_LEVELS)["x86-64-v3"])
    return frozenset(found - {"avx512f"})
