"""A tiny random model that subjects put around what they damage."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from mlc_llm.testing.model_folder import convert_checkpoint, make_checkpoint

TINY: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "vocab_size": 264,
    "max_position_embeddings": 128,
}


@functools.cache
def checkpoint() -> Path:
    """Its folder in Hugging Face's layout, made in the working folder, once a process."""
    return make_checkpoint(Path.cwd() / "tiny", **TINY)


@functools.cache
def model_folder() -> Path:
    """Its folder in MLC's layout in q4f16_1, made once a process."""
    place = Path.cwd() / "tiny-q4f16_1-MLC"
    return convert_checkpoint(checkpoint(), place, "q4f16_1", "llama-2")


def link_files(source: Path, folder: Path) -> None:
    """Put the files of one folder into another that has none of their names yet."""
    for file in source.iterdir():
        if not (folder / file.name).exists():
            os.link(file, folder / file.name)
