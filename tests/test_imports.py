"""What importing costs: the package, its plugin interfaces and the command line stay light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlc_llm.testing import make_checkpoint

HEAVY = ("tvm", "tvm_ffi", "torch", "transformers", "huggingface_hub")
"""Packages that nobody waits for who does not use them."""


def run(code: str) -> str:
    """What ``code`` prints in a fresh interpreter; warnings are errors there too."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "module",
    [
        "mlc_llm",
        "mlc_llm.plugin",
        "mlc_llm.registry.registry",
        "mlc_llm.config",
        "mlc_llm.callback",
        "mlc_llm.chat_module",
        "mlc_llm.engine.async_engine",
        "mlc_llm.protocol",
        "mlc_llm.cli",
        "mlc_llm.library.resolve",
    ],
)
def test_import_leaves_heavy_packages_alone(module: str) -> None:
    loaded = run(f"import sys, {module}; print(*sys.modules)").split()
    assert module in loaded
    assert not set(HEAVY) & set(loaded)


def test_converting_needs_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does what is set for TVM matter to it."""
    monkeypatch.setenv("TVM_USE_RUNTIME_LIB", "1")
    source = make_checkpoint(tmp_path / "source")
    loaded = run(
        "import sys; from mlc_llm import convert_weight, gen_config; "
        f"convert_weight({str(source)!r}, 'q4f16_1', {str(tmp_path / 'model')!r}); "
        f"gen_config({str(source)!r}, 'q4f16_1', 'LM', {str(tmp_path / 'model')!r}); "
        "print(*sys.modules)"
    ).split()
    assert not {"tvm", "tvm_ffi", "torch"} & set(loaded)


def test_package_import_loads_next_to_nothing_of_itself() -> None:
    loaded = run("import sys, mlc_llm; print(*sys.modules)").split()
    ours = {name for name in loaded if name.startswith("mlc_llm.")}
    assert ours == {"mlc_llm.version", "mlc_llm._lazy"}


def test_chat_module_prints_as_the_class() -> None:
    printed = run("from mlc_llm import ChatModule; print(ChatModule)")
    assert printed == "<class 'mlc_llm.chat_module.ChatModule'>\n"


def test_every_public_name_resolves() -> None:
    import mlc_llm

    for name in mlc_llm.__all__:
        assert getattr(mlc_llm, name) is not None
    assert set(mlc_llm.__all__) <= set(dir(mlc_llm))


def test_unknown_name_is_an_attribute_error() -> None:
    import mlc_llm

    with pytest.raises(AttributeError, match="has no attribute 'ChatModul'"):
        mlc_llm.ChatModul  # noqa: B018


@pytest.mark.parametrize("arguments", ["['--help']", "['chat', '--help']", "['--version']"])
def test_help_does_not_load_tvm(arguments: str) -> None:
    code = f"""
import sys
from mlc_llm.cli import main
try:
    main({arguments})
except SystemExit as end:
    assert not end.code, end.code
print("loaded:", *sys.modules)
"""
    shown, _, loaded = run(code).rpartition("loaded:")
    assert shown.strip()
    assert not set(HEAVY) & set(loaded.split())
