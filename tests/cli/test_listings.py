"""``mlc_llm templates`` and ``mlc_llm models``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.quantization import PLANS

CLI = Callable[..., Any]


@pytest.fixture
def fakes(tmp_path: Path) -> dict[str, str]:
    """Variables with which a good template, a malformed one and a broken architecture are found."""
    info = tmp_path / "fake_data-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-data\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text(
        "[mlc_llm.conversation_templates]\nfake = fake_data:GOOD\nodd = fake_data:ODD\n"
        "[mlc_llm.architectures]\nbroken = no_such_module:X\n"
    )
    (tmp_path / "fake_data.py").write_text(
        'GOOD = {"roles": {"user": "[U]", "assistant": "[Ä]"}, "seps": ["\\n"],\n'
        '        "stop_str": ["\\n"], "stop_token_ids": [2], "system_message": "a\\n" + "b" * 99}\n'
        'ODD = {"roles": {}}\n',
        encoding="utf-8",
    )
    return {"PYTHONPATH": str(tmp_path)}


class TestTemplates:
    def test_the_table(self, mlc_llm: CLI, fakes: dict[str, str]) -> None:
        result = mlc_llm("templates", variables=fakes)
        assert (result.returncode, result.stderr) == (0, "")
        header, *rows = result.stdout.splitlines()
        assert header.split()[:2] == ["name", "from"]
        by_name = {row.split()[0]: row for row in rows}
        assert {"LM", "llama-2", "mistral_default"} <= by_name.keys()
        assert "fake-data 2.1" in by_name["fake"]
        assert '"[U]", "[Ä]"' in by_name["fake"]
        assert '"\\n", 2' in by_name["fake"]
        assert by_name["fake"].endswith(" a " + "b" * 57 + "…")
        assert "cannot be used" in by_name["odd"]

    def test_json(self, mlc_llm: CLI, fakes: dict[str, str]) -> None:
        data = json.loads(mlc_llm("templates", "--json", variables=fakes).stdout)
        templates = {item["name"]: item for item in data["templates"]}
        fake = templates["fake"]
        assert (fake["distribution"], fake["version"], fake["problem"]) == ("fake-data", "2.1", "")
        assert fake["template"]["roles"] == {"user": "[U]", "assistant": "[Ä]"}
        assert templates["odd"]["template"] is None
        assert "not a valid conversation template" in templates["odd"]["problem"]


class TestModels:
    def test_the_tables(self, mlc_llm: CLI, fakes: dict[str, str]) -> None:
        result = mlc_llm("models", variables=fakes)
        assert (result.returncode, result.stderr) == (0, "")
        cells = [row.split() for row in result.stdout.splitlines()]
        assert ["llama", "mlc-llm", "0.1.0", "yes"] in [row[:4] for row in cells]
        assert ["broken", "fake-data", "2.1", "no"] in [row[:4] for row in cells]
        assert ["q4f16_1", "4.5", "32", "float16"] in cells
        assert ["q0f32", "32", "float32"] in cells

    def test_json(self, mlc_llm: CLI, fakes: dict[str, str]) -> None:
        data = json.loads(mlc_llm("models", "--json", variables=fakes).stdout)
        architectures = {item["name"]: item for item in data["architectures"]}
        assert {"llama", "mistral"} <= architectures.keys()
        assert "no_such_module" in architectures["broken"]["problem"]
        assert architectures["llama"]["problem"] == ""
        assert [item["name"] for item in data["quantizations"]] == list(PLANS)
