"""Make the wheel one for this platform, since libraries are native code."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LibraryWheel(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        libraries = Path(self.root) / "mlc_llm_shelf" / "libraries"
        if version == "standard" and not any(libraries.glob("*")):
            raise FileNotFoundError(f"{libraries} is empty: run `python build_library.py MODEL`")
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
