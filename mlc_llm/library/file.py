"""The library that the user named."""

from __future__ import annotations

from mlc_llm.errors import LibraryError
from mlc_llm.home import expand_home
from mlc_llm.library.record import check_file
from mlc_llm.plugin.hookspecs import hookimpl
from mlc_llm.plugin.model_library import Found, LibraryRequest, NotFound
from mlc_llm.registry.registry import Registry, default_registry


class FileProvider:
    """Answers with the file that the user named. Where that does not fit, no other is asked."""

    name = "file"
    order = 0

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry

    @hookimpl
    def mlc_llm_find_library(self, request: LibraryRequest) -> Found | NotFound | None:
        if request.named is None:
            return None
        registry = self._registry or default_registry()
        path = expand_home(request.named, LibraryError, "The model library").absolute()
        reason = check_file(path, request, registry.device(request.device))
        if reason is None:
            return Found(path, self.name)
        return NotFound(self.name, ((str(path), reason),), final=True)
