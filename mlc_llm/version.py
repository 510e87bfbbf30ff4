"""The version of the core, of its plugin interface, and of the TVM it is built for."""

from __future__ import annotations

import importlib.metadata

__version__ = "0.1.0"

INTERFACE_VERSION = 1
"""The plugin interface's version. A plugin of this one or the one before is accepted."""


def tvm_version() -> str:
    """The version of the installed ``apache-tvm`` distribution, read without importing TVM."""
    return importlib.metadata.version("apache-tvm")
