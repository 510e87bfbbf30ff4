"""Model libraries that come with this package, and the provider that hands them out."""

from __future__ import annotations

import atexit
import sys
from contextlib import ExitStack
from importlib.resources import as_file, files

from mlc_llm.plugin import Found, LibraryRequest, ModelSpec, NotFound, hookimpl

SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")

# Where the package is a zip file, a library is unpacked for as long as Python runs.
_unpacked = ExitStack()
atexit.register(_unpacked.close)


def library_name(spec: ModelSpec, device: str) -> str:
    """The file name of the library for a model and a device."""
    return f"{spec.architecture}-{spec.quantization}-{device}-{spec.digest()}{SUFFIX}"


class Shelf:
    """Answers with a library of this package, if it has the one that is asked for."""

    name = "shelf"
    order = 60  # before the provider that compiles, which has 100

    @hookimpl
    def mlc_llm_find_library(self, request: LibraryRequest) -> Found | NotFound:
        """Look on the shelf by name; mlc_llm checks what is inside before it opens the file."""
        shelf = files(__name__) / "libraries"
        wanted = library_name(request.spec, request.device)
        if not (shelf / wanted).is_file():
            return NotFound(self.name, ((str(shelf), f"it has no {wanted}"),))
        return Found(_unpacked.enter_context(as_file(shelf / wanted)), self.name)
