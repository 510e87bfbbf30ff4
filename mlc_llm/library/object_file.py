"""What kind of object file a file is, from its first bytes; nothing is loaded.

Sources: the ELF specification (``Elf64_Ehdr``), Apple's ``mach-o/loader.h`` and
``mach/machine.h``, Microsoft's PE format.
"""

from __future__ import annotations

import platform
import struct

from mlc_llm.files import is_lfs_pointer

ELF_MACHINES = {62: "x86_64", 183: "aarch64"}
MACHO_MACHINES = {0x01000007: "x86_64", 0x0100000C: "aarch64"}
PE_MACHINES = {0x8664: "x86_64", 0xAA64: "aarch64"}
OTHER_FORMATS = {
    b"\x7fELF\x01": "a shared library or program of 32 bits",
    b"\xce\xfa\xed\xfe": "a Mach-O file of 32 bits",
    b"!<arch>\n": "a static library",
    b"\0asm": "WebAssembly",
    b"BC\xc0\xde": "LLVM's bitcode",
    b"GGUF": "a GGUF model",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "compressed with gzip",
    b"#!": "a script",
}
"""Formats by how their files begin."""

_ELF_SHARED = 3
"""``ET_DYN``."""

MACHINE_ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}


def object_problem(data: bytes) -> str | None:
    """Why a file cannot be a shared library of this machine, or None.

    Args:
        data: the whole file, not empty.

    Returns:
        A reason such as ``"it is not a shared library"``: an LFS pointer, no object file, one for
        another system or processor, or one that is cut off.
    """
    if is_lfs_pointer(data[:64]):
        return "it is a Git-LFS pointer, not the file itself: run `git lfs pull` in its repository"
    kind = _identify(data)
    if kind is None:
        if (other := _other_format(data)) is not None:
            return f"it is {other}, not a shared library"
        return "it is not a shared library (neither ELF, Mach-O nor PE)"
    system, machine = kind
    here = platform.system()
    if system != here:
        return f"it is a shared library for {system}, and this is {here}"
    name = platform.machine().lower()
    if machine and machine != MACHINE_ALIASES.get(name, name):
        return f"it is for {machine} processors, and this one is {platform.machine()}"
    if system == "Linux" and _elf_type(data) != _ELF_SHARED:
        return "it is an ELF file that was not linked as a shared library, such as an object file"
    if system == "Linux" and _elf_end(data) > len(data):
        return f"it is cut off: {len(data)} bytes of at least {_elf_end(data)}"
    return None


def _identify(data: bytes) -> tuple[str, str] | None:
    """The system (as ``platform.system`` calls it) and processor, which may be unknown ("")."""
    head = bytes(data[:64])
    if head[:5] == b"\x7fELF\x02" and len(head) == 64:
        (number,) = struct.unpack_from("<H", head, 18)
        return "Linux", ELF_MACHINES.get(number, f"other (ELF machine {number})")
    if head[:4] == b"\xcf\xfa\xed\xfe" and len(head) >= 8:
        (number,) = struct.unpack_from("<I", head, 4)
        return "Darwin", MACHO_MACHINES.get(number, f"other (Mach-O machine {number:#x})")
    if head[:4] == b"\xca\xfe\xba\xbe":
        return "Darwin", ""
    if head[:2] == b"MZ" and len(head) == 64:
        (offset,) = struct.unpack_from("<I", head, 60)
        signature = bytes(data[offset : offset + 6])
        if signature[:4] == b"PE\0\0" and len(signature) == 6:
            (number,) = struct.unpack("<H", signature[4:])
            return "Windows", PE_MACHINES.get(number, f"other (PE machine {number:#x})")
    return None


def _other_format(data: bytes) -> str | None:
    """What else a file is that goes by a library's name or stands in its place."""
    if data[257:262] == b"ustar":
        return "a tar archive, as MLC LLM makes them for phones"
    return next((name for begin, name in OTHER_FORMATS.items() if data.startswith(begin)), None)


def _elf_type(data: bytes) -> int:
    (number,) = struct.unpack_from("<H", data, 16)
    return int(number)


def _elf_end(data: bytes) -> int:
    """Where the section header table ends, which linkers write last."""
    (offset,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    return int(offset + size * count)
