"""Whether a file is a GGUF file, by its name or by how it begins."""

from __future__ import annotations

from pathlib import Path

_MAGIC = b"GGUF"


def is_gguf(file: Path) -> bool:
    """Whether a file is meant as a GGUF file; whoever reads it says what is wrong with it.

    Args:
        file: an existing file. Ollama's have names that do not say what they are.
    """
    if file.suffix.lower() == ".gguf":
        return True
    try:
        with file.open("rb") as opened:
            return opened.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False
