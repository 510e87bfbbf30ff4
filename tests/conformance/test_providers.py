"""The built-in library providers, each with a request that it is to serve, and the fake."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mlc_llm.library.cache import LibraryCache
from mlc_llm.library.file import FileProvider
from mlc_llm.library.jit import JITProvider
from mlc_llm.library.prebuilt import PrebuiltProvider
from mlc_llm.model.llama import LLAMA
from mlc_llm.plugin import LibraryRequest
from mlc_llm.testing import FakeProvider, ProviderConformance
from mlc_llm.testing.provider import FOREIGN
from mlc_llm.testing.workbench import Workbench

UNKNOWN = "an unknown quantization"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, libraries: LibraryCache) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("providers"), libraries)


class _OfOneLibrary(ProviderConformance):
    """A provider of the small model's library, which is compiled once for the module."""

    @pytest.fixture
    def workbench(self, bench: Workbench) -> Workbench:
        return bench

    @pytest.fixture
    def library(self, small: LibraryRequest, workbench: Workbench) -> Path:
        return workbench.library(small.model_path, LLAMA, self.device)


class TestFile(_OfOneLibrary):
    provider = FileProvider()

    @pytest.fixture
    def served(self, small: LibraryRequest, library: Path) -> LibraryRequest:
        return replace(small, named=library)


class TestPrebuilt(_OfOneLibrary):
    provider = PrebuiltProvider()

    @pytest.fixture
    def served(self, small: LibraryRequest, library: Path, tmp_path: Path) -> LibraryRequest:
        model = shutil.copytree(small.model_path, tmp_path / "model")
        shutil.copy(library, model)
        return replace(small, model_path=model, allow_prebuilt=True)


# It compiles for the others, which takes a while.
@pytest.mark.matrix(case=[case for case in FOREIGN if case not in ("more layers", UNKNOWN)])
class TestJIT(ProviderConformance):
    provider = JITProvider()

    @pytest.fixture
    def served(self, small: LibraryRequest) -> LibraryRequest:
        return small


class TestFake(_OfOneLibrary):
    provider = FakeProvider()

    @pytest.fixture
    def served(self, small: LibraryRequest, library: Path) -> LibraryRequest:
        self.provider.files[:] = [library]
        return small
