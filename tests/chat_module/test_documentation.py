"""docs/chat_module.md names everything that is public, with the defaults that it has."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from mlc_llm import (
    ChatConfig,
    ChatModule,
    ConvConfig,
    GenerationConfig,
    GenerationResult,
    Metrics,
    StreamChunk,
    TokenLogprob,
    callback,
)
from mlc_llm.config import ModelFile

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "chat_module.md").read_text(encoding="utf-8")

CONFIGS = (GenerationConfig, ChatConfig, ConvConfig)


def section(title: str) -> str:
    """The text under a heading."""
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> dict[str, list[str]]:
    """The tables of a section: the cells of each row by the name in its first one."""
    lines = [line for line in section(title).splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {re.match(r"`(\w+)", row[0])[1]: row for row in cells}  # type: ignore[index]


def public(cls: type) -> set[str]:
    return {name for name in vars(cls) if not name.startswith("_")}


def test_every_method_and_attribute() -> None:
    attributes = {"model_path", "model_lib", "device", "chat_config"}
    arguments = set(inspect.signature(ChatModule).parameters)
    assert set(rows("ChatModule")) == public(ChatModule) | attributes | arguments


@pytest.mark.parametrize(
    "name",
    [name for name in sorted(public(ChatModule)) if inspect.isfunction(getattr(ChatModule, name))],
)
def test_signatures(name: str) -> None:
    parameters = list(inspect.signature(getattr(ChatModule, name)).parameters.values())[1:]
    assert f"| `{name}({shown(parameters)})` |" in TEXT


def shown(parameters: Iterable[inspect.Parameter]) -> str:
    """Parameters as they stand in the document: names and defaults."""
    return ", ".join(
        parameter.name
        if parameter.default is inspect.Parameter.empty
        else f"{parameter.name}={parameter.default!r}"
        for parameter in parameters
    )


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_every_field_and_nothing_else(config: type[ChatConfig]) -> None:
    assert set(rows(config.__name__)) == set(config.model_fields)


def test_the_older_spellings() -> None:
    for old, new in ConvConfig.older_spellings.items():
        assert f"older spelling: `{old}`" in rows("ConvConfig")[new][1]


def test_the_defaults_of_the_chat() -> None:
    for name, row in rows("ChatConfig").items():
        if re.fullmatch(r"[\d.]+", row[2]):
            assert float(row[2]) == ModelFile.model_fields[name].default


def test_every_callback() -> None:
    classes = {
        name
        for name, value in vars(callback).items()
        if inspect.isclass(value) and issubclass(value, callback.DeltaCallback)
    }
    assert set(rows("Callbacks")) == classes
    for name in classes:
        parameters = inspect.signature(getattr(callback, name)).parameters.values()
        assert f"`{name}({shown(parameters)})`" in TEXT


@pytest.mark.parametrize(
    "result", [GenerationResult, Metrics, StreamChunk, TokenLogprob], ids=lambda cls: cls.__name__
)
def test_every_field_of_a_result(result: type) -> None:
    fields = (
        {field.name for field in dataclasses.fields(result)}
        if dataclasses.is_dataclass(result)
        else set(result.__annotations__)
    )
    row = " ".join(rows("Results")[result.__name__])
    assert {name for name in fields if f"`{name}`" not in row} == set()
