"""Where everything that mlc_llm caches is kept."""

from __future__ import annotations

import os
from pathlib import Path

from mlc_llm.errors import ConfigError
from mlc_llm.home import expand_home

CACHE_VARIABLE = "MLC_LLM_CACHE"
"""The environment variable that names the folder of everything that mlc_llm caches."""


def cache_root() -> Path:
    """``$MLC_LLM_CACHE``, or ``mlc_llm`` in the user's cache folder; it need not exist.

    Raises:
        ConfigError: there is no home folder that it could be in.
    """
    named = os.environ.get(CACHE_VARIABLE, "").strip()
    if named:
        return expand_home(named, ConfigError, f"The folder {CACHE_VARIABLE}").absolute()
    import platformdirs

    try:
        folder = platformdirs.user_cache_dir("mlc_llm")
    except RuntimeError:
        folder = "~"
    if folder.startswith("~"):  # as older versions of platformdirs give it
        raise ConfigError(
            "There is no folder to cache in: HOME is not set, and the user of this process has no "
            f"entry in the password file. Set {CACHE_VARIABLE} to a folder.",
            code="home-unknown",
        )
    return Path(folder).absolute()
