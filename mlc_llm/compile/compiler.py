"""The C compiler that links model libraries; TVM is not imported for it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from mlc_llm.errors import CompileError

WRAPPERS = ("ccache", "sccache", "distcc")
COMPILERS = ("gcc", "clang", "cc", "g++", "clang++", "c++")


def find_compiler() -> str:
    """The program that links shared libraries: of ``$CXX``, of ``$CC``, or the first on PATH.

    Raises:
        CompileError: there is none.
    """
    named = os.environ.get("CXX") or os.environ.get("CC")
    program = _program(named or "")
    if program and shutil.which(program):
        return program
    names = ("clang",) if sys.platform == "win32" else COMPILERS
    for name in names:
        if shutil.which(name):
            return name
    looked = f"$CXX={named!r} and " if named else ""
    raise CompileError(
        "A model library is linked with a C compiler, and none was found. "
        f"Looked for {looked}{', '.join(names)} on PATH. {how_to_get_a_compiler()}",
        code="compiler-missing",
    )


def _program(command: str) -> str:
    """The compiler in a command such as ``ccache g++ -m64``: TVM starts it without a shell.

    The whole command where it is a program's path, which may have blanks.
    """
    if shutil.which(command):
        return command
    words = [word for word in command.split() if Path(word).name not in WRAPPERS]
    return words[0] if words else ""


def how_to_get_a_compiler() -> str:
    """What to install, as a sentence."""
    match sys.platform:
        case "darwin":
            return "Install one with: xcode-select --install"
        case "win32":
            return (
                "Install LLVM (https://releases.llvm.org), whose clang is used, and add it to PATH."
            )
    return "Install one with: apt-get install gcc (Debian, Ubuntu) or dnf install gcc (Fedora)."
