"""Home folders: those that are there, and processes that have none."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from mlc_llm import ChatModule, convert_weight, gen_config
from mlc_llm.cache_root import cache_root
from mlc_llm.cli.chat.history_file import HistoryFile, history_path
from mlc_llm.errors import ConfigError, ConversionError, MLCError, ModelNotFoundError
from mlc_llm.home import expand_home
from mlc_llm.library.cache import LibraryCache
from mlc_llm.library.jit import JITProvider
from mlc_llm.plugin import Found, LibraryRequest, ModelSpec, NotFound
from mlc_llm.quantization import plan
from mlc_llm.registry.registry import Registry
from mlc_llm.testing import raises

NOBODY = "~no-such-user/x"


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id without an entry in the password file, as containers have it."""

    def unknown(_: object) -> pwd.struct_passwd:
        raise KeyError("no such user")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "MLC_LLM_CACHE", "XDG_CACHE_HOME", "XDG_STATE_HOME", "MLC_LLM_HISTORY"):
        monkeypatch.delenv(name, raising=False)


def test_a_home_folder_is_put_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/here")
    assert expand_home("~/x", MLCError) == Path("/here/x")
    for plain in ("x/~", "/~", ""):
        assert expand_home(plain, MLCError) == Path(plain)
    here = expand_home("./~x", MLCError)
    assert here == Path.cwd() / "~x" == expand_home(here, MLCError)


@pytest.mark.usefixtures("homeless")
def test_a_process_without_one() -> None:
    with raises("home-unknown", "'~/x'", "HOME", error=ModelNotFoundError):
        expand_home("~/x", ModelNotFoundError, "The model")
    with raises("home-unknown", "MLC_LLM_CACHE", error=ConfigError):
        cache_root()
    assert history_path() is None


@pytest.mark.usefixtures("homeless")
def test_the_library_provider_says_what_to_set(registry: Registry) -> None:
    spec = ModelSpec(architecture="llama", shape={}, plan=plan("q4f16_1"))
    request = LibraryRequest(spec, "cpu", {"kind": "llvm"}, Path("model"))
    answer: Found | NotFound | None = JITProvider(registry=registry).mlc_llm_find_library(request)
    assert isinstance(answer, NotFound)
    assert "MLC_LLM_CACHE" in answer.looked_at[0][1]


@pytest.fixture
def registry() -> Registry:
    return Registry(allowed=[])


def test_the_cache_of_an_unknown_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLC_LLM_CACHE", NOBODY)
    with raises("home-unknown", "MLC_LLM_CACHE", NOBODY, error=ConfigError):
        LibraryCache()


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (ModelNotFoundError, lambda: ChatModule(NOBODY)),
        (ModelNotFoundError, lambda: gen_config(NOBODY, "q0f32", "LM", "out")),
        (ModelNotFoundError, lambda: convert_weight(NOBODY, "q0f32", "out")),
        (MLCError, lambda: ChatModule("demo", model_lib=NOBODY)),
    ],
)
def test_every_path_of_an_unknown_user_is_refused_by_name(
    error: type[MLCError], call: Callable[[], object]
) -> None:
    with raises("home-unknown", "'no-such-user'", error=error):
        call()


def test_an_output_of_an_unknown_user(make_checkpoint: Callable[..., Path]) -> None:
    source = make_checkpoint("llama")
    for write in (
        lambda: convert_weight(source, "q0f32", NOBODY),
        lambda: gen_config(source, "q0f32", "LM", NOBODY),
    ):
        with raises("home-unknown", NOBODY, error=ConversionError):
            write()


def test_a_history_of_an_unknown_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLC_LLM_HISTORY", NOBODY)
    monkeypatch.chdir(tmp_path)
    path = history_path()
    assert path is not None
    with pytest.raises(OSError, match="its home folder is not known"):
        HistoryFile(path)
    assert not os.listdir(tmp_path)  # noqa: PTH208
