"""Inline PTX in CUDA C, made into calls of the emulator (``include/ptx.h``).

``asm volatile("add.u32 %0, %1, 1;" : "=r"(y) : "r"(x));`` names its operands as g++ would for the
host's processor. The text of the instructions stays, and the emulator reads it when it runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

ASM = re.compile(r"\b(?:asm|__asm__)\s*(?:volatile|__volatile__)?\s*(?=\()")
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[()\[\]{}]|[^"()\[\]{}]', re.DOTALL)
OPERAND = re.compile(r'\s*"(?P<constraint>[^"]*)"\s*\((?P<value>.*)\)\s*', re.DOTALL)


def without_asm(text: str) -> str:
    """The text with calls in the place of its ``asm`` statements; lines keep their numbers."""
    parts, done = [], 0
    for found in ASM.finditer(text):
        if found.start() < done:
            continue
        end = _closing(text, found.end())
        statement = text[found.end() + 1 : end]
        parts += [text[done : found.start()], _call(statement), "\n" * statement.count("\n")]
        done = end + 1
    return "".join([*parts, text[done:]])


def _closing(text: str, opening: int) -> int:
    """Where the parenthesis that opens here is closed."""
    depth = 0
    for token in TOKEN.finditer(text, opening):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth == 0:
            return token.start()
    raise ValueError("a parenthesis is not closed")


def _call(statement: str) -> str:
    """A call that does what the inside of an ``asm`` statement says."""
    instructions, outputs, inputs, *_ = [*_split(statement, ":"), "", ""]
    operands = [
        f"{function}({_operand(one)})"
        for function, section in (("gpu_output", outputs), ("gpu_input", inputs))
        for one in _split(section, ",")
        if one.strip()
    ]
    return (
        "do { "
        f"static const GpuPtx gpu_ptx({' '.join(instructions.split())}); "
        f"GpuOperand gpu_operands[] = {{{', '.join([*operands, 'GpuOperand()'])}}}; "
        "gpu_ptx_run(gpu_ptx.program, gpu_operands, __LINE__); } while (0)"
    )


def _split(text: str, separator: str) -> Iterator[str]:
    """Parts of a text between separators that are in no parentheses."""
    depth, part = 0, ""
    for token in TOKEN.findall(text):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(token, 0)
        if token == separator and depth == 0:
            yield part
            part = ""
        else:
            part += token
    yield part


def _operand(text: str) -> str:
    found = OPERAND.fullmatch(text)
    if found is None:
        raise ValueError(f"this is not an operand of an asm statement: {text.strip()}")
    return " ".join(found["value"].split())
