"""Where everything that mlc_llm caches is kept."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "MLC_LLM_CACHE"
"""The environment variable that names the folder of everything that mlc_llm caches."""


def cache_root() -> Path:
    """``$MLC_LLM_CACHE``, or ``mlc_llm`` in the user's cache folder; it need not exist."""
    named = os.environ.get(CACHE_VARIABLE, "").strip()
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("mlc_llm")).absolute()
