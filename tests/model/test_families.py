"""The parameters of every model of a family, as MLC lays them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.model.llama import LLAMA
from mlc_llm.model.mistral import MISTRAL
from mlc_llm.model.stored import stored_parameters
from mlc_llm.plugin import Architecture
from mlc_llm.quantization import plan

FAMILIES: dict[str, Architecture] = {"llama": LLAMA, "mistral": MISTRAL}


def expected(described: list[list[Any]]) -> list[tuple[str, list[Any], str]]:
    """The parameters that a file describes, layer by layer."""
    parameters = []
    begin = 0
    while begin < len(described):
        end = begin + 1
        if len(described[begin]) == 3:
            parameters.append(tuple(described[begin]))
        else:
            while end < len(described) and described[end][3:] == described[begin][3:]:
                end += 1
            first, last = map(int, described[begin][3].split(".."))
            parameters += [
                (name.format(i=index), shape, dtype)
                for index in range(first, last + 1)
                for name, shape, dtype, _ in described[begin:end]
            ]
        begin = end
    return parameters


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("quantization", ["q0f16", "q4f16_1", "q3f16_1"])
def test_parameters_are_those_of_mlc(test_data: Path, family: str, quantization: str) -> None:
    architecture = FAMILIES[family]
    models = json.loads((test_data / "families" / f"{family}.json").read_text())["models"]
    assert models
    for name, model in models.items():
        module = architecture.module(architecture.config(model["config"]))
        found = [
            (one.name, list(one.shape), one.dtype)
            for one in stored_parameters(module, plan(quantization))
        ]
        assert found == expected(model[quantization]["parameters"]), name
