"""``mlc_llm pull``, ``mlc_llm list`` and ``mlc_llm rm``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mlc_llm as package

CLI = Callable[..., Any]
DEMO = str(Path(package.__file__).parent / "demo")


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Caches and a home folder of their own, with a converted model and one of LM Studio."""
    folder = tmp_path / "cache" / "converted" / "k1"
    folder.mkdir(parents=True)
    (folder / "mlc-chat-config.json").write_text("{}")
    (folder / "source.json").write_text(json.dumps({"source": "HF://org/name"}))
    other = tmp_path / "home" / ".lmstudio" / "models" / "someone" / "tiny" / "m-Q4_0.gguf"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"GGUF" + bytes(1996))
    home = str(tmp_path / "home")
    return {
        "HOME": home,
        "USERPROFILE": home,
        "OLLAMA_MODELS": str(tmp_path / "none"),
        "HF_HOME": str(tmp_path / "huggingface"),
        "MLC_LLM_CACHE": str(tmp_path / "cache"),
    }


class TestList:
    def test_the_table(self, mlc_llm: CLI, variables: dict[str, str]) -> None:
        result = mlc_llm("list", variables=variables)
        assert (result.returncode, result.stderr) == (0, "")
        header, *rows = result.stdout.splitlines()
        assert header.split()[:2] == ["name", "size"]
        cells = [row.split() for row in rows]
        assert [row[0] for row in cells] == [
            "demo",
            "smollm2",
            "HF://org/name",
            "lmstudio:someone/tiny/m-Q4_0.gguf",
        ]
        assert cells[0][1:] == ["2", "MB", "catalogue", DEMO]
        assert cells[1][1:7] == ["93", "MB", "catalogue", "not", "downloaded", "yet:"]
        assert cells[2][3] == "converted"
        assert cells[3][1:4] == ["2", "kB", "lmstudio"]

    def test_json(self, mlc_llm: CLI, variables: dict[str, str], tmp_path: Path) -> None:
        result = mlc_llm("list", "--json", variables=variables)
        models = {model["name"]: model for model in json.loads(result.stdout)["models"]}
        assert models["demo"] | {"note": ""} == {
            "name": "demo",
            "store": "catalogue",
            "state": "here",
            "path": DEMO,
            "bytes": sum(file.stat().st_size for file in Path(DEMO).iterdir()),
            "note": "",
        }
        assert (models["smollm2"]["state"], models["smollm2"]["path"]) == ("available", None)
        converted = models["HF://org/name"]
        assert converted["path"] == str(tmp_path / "cache" / "converted" / "k1")


class TestPull:
    def test_what_is_here_is_found(self, mlc_llm: CLI, variables: dict[str, str]) -> None:
        result = mlc_llm("pull", "demo", variables=variables)
        assert (result.returncode, result.stdout, result.stderr) == (0, f"{DEMO}\n", "")
        result = mlc_llm("pull", "demo", "--json", variables=variables)
        (model,) = json.loads(result.stdout)["models"]
        assert (model["name"], model["path"]) == ("demo", DEMO)
        assert model["bytes"] > 1_000_000

    def test_errors(self, mlc_llm: CLI, variables: dict[str, str]) -> None:
        result = mlc_llm("pull", "smollm2", variables=variables)
        assert result.returncode == 1
        assert "[model-not-cached]" in result.stderr
        assert mlc_llm("pull").returncode == 2


class TestRemove:
    def test_without_a_terminal_it_must_be_said(
        self, mlc_llm: CLI, variables: dict[str, str], tmp_path: Path
    ) -> None:
        folder = tmp_path / "cache" / "converted" / "k1"
        result = mlc_llm("rm", "HF://org/name", variables=variables, input="y\n")
        assert result.returncode == 1
        assert "[consent-missing]" in result.stderr
        assert folder.is_dir()
        result = mlc_llm("rm", "HF://org/name", "--yes", variables=variables)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.startswith("removed HF://org/name (converted, ")
        assert not folder.exists()

    def test_json(self, mlc_llm: CLI, variables: dict[str, str], tmp_path: Path) -> None:
        folder = tmp_path / "cache" / "converted" / "k1"
        result = mlc_llm("rm", "k1", "--yes", "--json", variables=variables)
        (removed,) = json.loads(result.stdout)["removed"]
        assert (removed["name"], removed["paths"]) == ("HF://org/name", [str(folder)])

    def test_one_that_is_unknown_leaves_the_others(
        self, mlc_llm: CLI, variables: dict[str, str], tmp_path: Path
    ) -> None:
        result = mlc_llm("rm", "k1", "k2", "--yes", variables=variables)
        assert result.returncode == 1
        assert "[model-not-kept]" in result.stderr
        assert (tmp_path / "cache" / "converted" / "k1").is_dir()
        lm_studio = mlc_llm("rm", "lmstudio:someone/tiny/m-Q4_0.gguf", "-y", variables=variables)
        assert "[model-not-ours]" in lm_studio.stderr

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has other terminals")
    @pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
    def test_on_a_terminal_it_asks(
        self, variables: dict[str, str], tmp_path: Path, answer: str, code: int
    ) -> None:
        import pty

        outer, inner = pty.openpty()
        os.write(outer, f"{answer}\n".encode())
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "mlc_llm", "rm", "HF://org/name"],
            env={**os.environ, **variables},
            stdin=inner,
            capture_output=True,
            text=True,
        )
        os.close(inner)
        os.close(outer)
        assert done.returncode == code, done.stderr
        assert "HF://org/name (converted, " in done.stderr
        assert "Remove this" in done.stderr
        assert (tmp_path / "cache" / "converted" / "k1").exists() == (code == 1)
