"""The file and prebuilt providers, and the search through all of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from mlc_llm.errors import DeviceError, LibraryError
from mlc_llm.library.file import FileProvider
from mlc_llm.library.prebuilt import MAX_FILES, PrebuiltProvider, candidates
from mlc_llm.library.resolve import resolve_library
from mlc_llm.plugin import Found, LibraryRequest, NotFound
from mlc_llm.registry.registry import Registry, State
from mlc_llm.testing import raises

Write = Callable[..., Path]
MakeRequest = Callable[..., LibraryRequest]


class TestFile:
    def test_nothing_is_named(self, make_request: MakeRequest, registry: Registry) -> None:
        assert FileProvider(registry).mlc_llm_find_library(make_request()) is None

    def test_a_file_that_fits(
        self, tmp_path: Path, write: Write, make_request: MakeRequest, registry: Registry
    ) -> None:
        path = write(tmp_path / "lib.so")
        found = FileProvider(registry).mlc_llm_find_library(make_request(named=path))
        assert found == Found(path, "file")

    def test_a_relative_path_becomes_absolute(
        self,
        tmp_path: Path,
        write: Write,
        make_request: MakeRequest,
        registry: Registry,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        path = write(tmp_path / "lib.so")
        monkeypatch.chdir(tmp_path)
        found = resolve_library(make_request(named=Path("lib.so")), registry)
        assert found == Found(path, "file")

    def test_a_file_that_does_not_fit_is_final(
        self, tmp_path: Path, write: Write, make_request: MakeRequest, registry: Registry
    ) -> None:
        path = write(tmp_path / "lib.so", device="cuda")
        answer = FileProvider(registry).mlc_llm_find_library(make_request(named=path))
        assert answer == NotFound("file", ((str(path), answer.looked_at[0][1]),), final=True)
        with raises("library-unusable", path, "'cuda'", "'cpu'", "model_lib", error=LibraryError):
            resolve_library(make_request(named=path), registry)


class TestPrebuilt:
    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def test_a_file_beside_the_weights_is_named_and_skipped(
        self, write: Write, make_request: MakeRequest, registry: Registry
    ) -> None:
        request = make_request()
        path = write(request.model_path / "lib.so")
        answer = PrebuiltProvider(registry).mlc_llm_find_library(request)
        assert isinstance(answer, NotFound)
        assert not answer.final
        ((place, reason),) = answer.looked_at
        assert place == str(path)
        assert "MLC_LLM_ALLOW_PREBUILT=1" in reason

    @pytest.mark.parametrize("how", ["request", "environment"])
    def test_it_is_taken_when_the_user_allows_it(
        self,
        write: Write,
        make_request: MakeRequest,
        registry: Registry,
        monkeypatch: pytest.MonkeyPatch,
        how: str,
    ) -> None:
        path = write(make_request().model_path / "lib.so")
        request = make_request(allow_prebuilt=how == "request")
        if how == "environment":
            monkeypatch.setenv("MLC_LLM_ALLOW_PREBUILT", "1")
        found = PrebuiltProvider(registry).mlc_llm_find_library(request)
        assert found == Found(path, "prebuilt")

    @pytest.mark.parametrize("value", ["", "0", "no", "false"])
    def test_other_values_do_not_allow_it(
        self,
        write: Write,
        make_request: MakeRequest,
        registry: Registry,
        monkeypatch: pytest.MonkeyPatch,
        value: str,
    ) -> None:
        write(make_request().model_path / "lib.so")
        monkeypatch.setenv("MLC_LLM_ALLOW_PREBUILT", value)
        answer = PrebuiltProvider(registry).mlc_llm_find_library(make_request())
        assert isinstance(answer, NotFound)

    def test_what_does_not_fit_says_so_and_the_next_is_taken(
        self, tmp_path: Path, write: Write, make_request: MakeRequest, registry: Registry
    ) -> None:
        request = make_request(allow_prebuilt=True)
        write(request.model_path / "a.so", device="cuda")
        fits = write(tmp_path / "dist" / "libs" / "b.so")
        found = PrebuiltProvider(registry).mlc_llm_find_library(request)
        assert found == Found(fits, "prebuilt")
        fits.unlink()
        answer = PrebuiltProvider(registry).mlc_llm_find_library(request)
        assert "for the device 'cuda'" in answer.looked_at[0][1]

    def test_where_is_looked_and_in_which_order(
        self, tmp_path: Path, make_request: MakeRequest
    ) -> None:
        model = make_request().model_path
        places = [
            "dist/a.so",
            "dist/libs/b.so",
            "dist/prebuilt/lib/c.so",
            "dist/prebuilt_libs/d.so",
            "dist/prebuilt_libs/Model-7B/Model-7B-q4f16_1-cpu.so",
            "dist/other/not-looked-at.so",
            "dist/libs/readme.txt",
        ]
        for place in places:
            (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / place).write_bytes(b"x")
        (model / "z.dylib").write_bytes(b"x")
        (tmp_path / "dist" / "folder.so").mkdir()
        names = [path.name for path in candidates(model)]
        assert names == ["z.dylib", "Model-7B-q4f16_1-cpu.so", "a.so", "b.so", "c.so", "d.so"]

    def test_no_files_say_nothing_and_too_many_say_so(
        self, make_request: MakeRequest, registry: Registry
    ) -> None:
        request = make_request()
        provider = PrebuiltProvider(registry)
        assert provider.mlc_llm_find_library(request) is None
        for i in range(MAX_FILES + 3):
            (request.model_path / f"{i}.so").write_bytes(b"x")
        answer = provider.mlc_llm_find_library(request)
        assert len(answer.looked_at) == MAX_FILES + 1
        assert answer.looked_at[-1][0] == "3 more files"

    def test_more_bytes_than_are_looked_into(
        self, make_request: MakeRequest, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mlc_llm.library.prebuilt.MAX_BYTES", 25)
        request = make_request()
        with (request.model_path / "0.so").open("wb") as file:
            file.truncate(20 << 30)  # It is refused by its size, and costs nothing.
        for i in range(1, 5):
            (request.model_path / f"{i}.so").write_bytes(b"x" * 10)
        answer = PrebuiltProvider(registry).mlc_llm_find_library(request)
        assert [Path(place).name for place, _ in answer.looked_at[:-1]] == ["0.so", "1.so", "2.so"]
        assert answer.looked_at[-1][0] == "2 more files"

    def test_a_current_folder_that_was_deleted(
        self, tmp_path: Path, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        assert candidates(make_request().model_path) == []


PROVIDERS = """
from pathlib import Path
from mlc_llm.plugin import Found, NotFound, hookimpl

class Base:
    answer = None
    @hookimpl
    def mlc_llm_find_library(self, request):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

class A(Base): order = 1
class B(Base): order = 2
class C(Base): order = 3
"""


class TestResolve:
    @pytest.fixture
    def providers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[tuple[Registry, type]]:
        """A registry of three providers, and the module in which their answers are set."""
        (tmp_path / "three_providers.py").write_text(PROVIDERS)
        monkeypatch.syspath_prepend(str(tmp_path))
        entries = [EntryPoint("cpu", "mlc_llm.device.cpu:CPU", "mlc_llm.devices")]
        entries += [
            EntryPoint(name.lower(), f"three_providers:{name}", "mlc_llm.model_libraries")
            for name in "ABC"
        ]
        import three_providers

        yield Registry(entries), three_providers
        del sys.modules["three_providers"]

    def test_every_reason_is_in_the_error(
        self, tmp_path: Path, providers: tuple, write: Write, make_request: MakeRequest
    ) -> None:
        registry, module = providers
        module.A.answer = NotFound("a", (("here", "too\nold"), ("there", "too new")))
        module.B.answer = RuntimeError("out of order")
        module.C.answer = Found(write(tmp_path / "lib.so", tvm="0.1"), "c")
        asked = ("llama", "q4f16_1", "'cpu'")
        with raises("library-not-found", *asked, error=LibraryError) as caught:
            resolve_library(make_request(), registry)
        lines = str(caught.value).splitlines()
        assert lines[1:5] == [
            "  a: here: too",
            "    old",
            "  a: there: too new",
            "  b: (unnamed distribution) raised RuntimeError: out of order",
        ]
        assert lines[5].startswith(f"  c: {tmp_path / 'lib.so'}: it was compiled with TVM 0.1")

    def test_the_first_that_fits_is_taken_and_marked(
        self, tmp_path: Path, providers: tuple, write: Write, make_request: MakeRequest
    ) -> None:
        registry, module = providers
        module.A.answer = Found(write(tmp_path / "a.so", device="cuda"), "a")
        module.B.answer = Found(write(tmp_path / "b.so"), "whoever")
        module.C.answer = Found(write(tmp_path / "c.so"), "c")
        assert resolve_library(make_request(), registry) == Found(tmp_path / "b.so", "b")
        assert registry.entry("library provider", "b").state is State.SELECTED

    def test_a_final_answer_ends_the_search(
        self, tmp_path: Path, providers: tuple, write: Write, make_request: MakeRequest
    ) -> None:
        registry, module = providers
        module.A.answer = NotFound("a", (("here", "no"),), final=True)
        module.B.answer = Found(write(tmp_path / "b.so"), "b")
        with raises("library-not-found", "a: here: no"):
            resolve_library(make_request(), registry)

    def test_an_answer_of_the_wrong_type(self, providers: tuple, make_request: MakeRequest) -> None:
        registry, module = providers
        module.A.answer = "lib.so"
        with raises("library-not-found", "a: ", "str"):
            resolve_library(make_request(), registry)

    def test_nobody_replaces_the_file_that_was_named(
        self, tmp_path: Path, providers: tuple, write: Write, make_request: MakeRequest
    ) -> None:
        registry, module = providers
        module.A.answer = Found(write(tmp_path / "other.so"), "a")
        with raises("library-unusable", tmp_path / "other.so", error=LibraryError):
            resolve_library(make_request(named=tmp_path / "mine.so"), registry)

    def test_nothing_at_all(self, providers: tuple, make_request: MakeRequest) -> None:
        with raises("library-not-found", "'cpu'", error=LibraryError):
            resolve_library(make_request(), providers[0])

    def test_an_unknown_device(self, providers: tuple, make_request: MakeRequest) -> None:
        with raises("device-unknown", "'cpuu'", "'cpu'", error=DeviceError):
            resolve_library(make_request(device="cpuu"), providers[0])
