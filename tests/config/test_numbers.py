"""What the fields take: ranges of numbers and everything else."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from mlc_llm import ChatConfig, ConvConfig, GenerationConfig
from mlc_llm.config import ModelFile, Overlay
from mlc_llm.errors import ConfigError, ModelFolderError
from mlc_llm.testing import raises

from .values import written

RANGES = {
    "temperature": ("a number of at least 0", [0, 0.5, 2, 1e9], [-1e-9, -1]),
    "top_p": ("a number above 0 and at most 1", [1e-9, 1], [0, 1.0000001, -1]),
    "min_p": ("a number of at least 0 and at most 1", [0, 1], [-0.1, 1.1]),
    "top_k": ("a whole number of at least 0", [0, 10**9], [-1, 0.5]),
    "presence_penalty": ("a number of at least -2 and at most 2", [-2, 2], [-2.1, 2.1]),
    "frequency_penalty": ("a number of at least -2 and at most 2", [-2, 2], [-2.1, 2.1]),
    "repetition_penalty": ("a number above 0", [1e-9, 5], [0, -1]),
    "mean_gen_len": ("a whole number of at least 1", [1, 10**6], [0, -1, 1.5]),
    "max_gen_len": ("a whole number of at least 1", [1, 10**6], [0, -1, 1.5]),
    "n": ("a whole number of at least 1", [1, 8], [0, -1, 1.5]),
    "seed": ("a whole number of at least 0", [0, 2**63], [-1]),
    "logprobs": ("a whole number of at least 0 and at most 20", [0, 20], [-1, 21]),
    "shift_fill_factor": ("a number above 0 and at most 1", [0.1, 1], [0, 1.1]),
    "context_window_size": (
        "a whole number of at least 1, or -1 for no limit",
        [-1, 1, 10**6],
        [0, -2],
    ),
    "sliding_window_size": (
        "a whole number of at least 1, or -1 for no limit",
        [-1, 1],
        [0, -2, 1.5],
    ),
    "prefill_chunk_size": ("a whole number of at least 1, or -1 for no limit", [-1, 1], [0, -2]),
    "attention_sink_size": ("a whole number of at least -1", [-1, 0, 4], [-2]),
    "max_batch_size": ("a whole number of at least 1", [1], [0]),
    "num_threads": ("a whole number of at least 1 and at most 1024", [1, 1024], [0, -1, 1025]),
}
ENDS = ("at most 2147483647", f"at most {2**64 - 1}", "at most 1000000000.0")
"""Where what cannot be computed with begins."""
NO_NUMBERS = [True, False, "1", b"1", math.nan, math.inf, -math.inf, [], {}, 1j]
RANGED = [
    (cls, name)
    for cls in (ChatConfig, GenerationConfig)
    for name in RANGES
    if name in cls.model_fields
]


def limits(wanted: str) -> list[str]:
    """The numbers in the words for a range, which a message must have."""
    return re.findall(r"-?\d+(?:\.\d+)?", wanted)


def message_of(make: Callable[[], object]) -> str:
    """What is said of a value that is refused."""
    with pytest.raises(ConfigError) as caught:
        make()
    return str(caught.value)


class TestRanges:
    @pytest.mark.parametrize(("cls", "name"), RANGED)
    def test_inside(self, cls: type[Overlay], name: str) -> None:
        for value in RANGES[name][1]:
            assert getattr(cls(**{name: value}), name) == value

    @pytest.mark.parametrize(("cls", "name"), RANGED)
    def test_the_error_names_field_value_and_range(self, cls: type[Overlay], name: str) -> None:
        wanted, _, outside = RANGES[name]
        for value in [*outside, *NO_NUMBERS]:
            given = "" if isinstance(value, dict) else f"not {value!r}"
            named = (f"{cls.__name__}.{name} ", given, *limits(wanted))
            with raises("config-invalid", *named) as made:
                cls(**{name: value})
            config = cls()
            with raises("config-invalid", *named) as assigned:
                setattr(config, name, value)
            assert str(assigned.value) == str(made.value)
            assert config.overrides() == {}

    @hypothesis.given(st.sampled_from(RANGED), st.floats() | st.integers())
    def test_any_number_is_taken_as_it_is_or_refused(
        self, field: tuple[type[Overlay], str], value: float
    ) -> None:
        cls, name = field
        with contextlib.suppress(ConfigError):
            taken = getattr(cls(**{name: value}), name)
            assert taken == type(taken)(value)
            return
        with raises("config-invalid", f"{cls.__name__}.{name} must be "):
            cls(**{name: value})

    @pytest.mark.parametrize(("cls", "name"), RANGED)
    def test_what_cannot_be_computed_with(self, cls: type[Overlay], name: str) -> None:
        smallest = [5e-324] if name == "repetition_penalty" else []
        for value in [2**64, 10**400, 10**5000, 1e300, *smallest]:
            message = message_of(lambda value=value: cls(**{name: value}))
            assert message.startswith(f"{cls.__name__}.{name} must be ")
            assert len(message) < 250

    def test_what_can_hardly_be_computed_with(self) -> None:
        for name, most in (("n", 2**31 - 1), ("seed", 2**64 - 1), ("temperature", 1e9)):
            assert getattr(GenerationConfig(**{name: most}), name) == most
            message = message_of(lambda name=name, most=most: GenerationConfig(**{name: most * 2}))
            assert f"{name} must be at most {most}, not " in message
        with pytest.raises(ConfigError, match="logit_bias"):
            GenerationConfig(logit_bias={10**5000: 1})

    def test_numpys_numbers(self) -> None:
        config = GenerationConfig(n=np.int64(3), temperature=np.float32(0.5), max_gen_len=4.0)
        assert (config.n, config.temperature, config.max_gen_len) == (3, 0.5, 4)
        assert type(config.n) is type(config.max_gen_len) is int

    @pytest.mark.parametrize(
        ("make", "named"),
        [
            (
                lambda: GenerationConfig(logit_bias={5: 200}),
                ["GenerationConfig.logit_bias.5", -100, 100, 200],
            ),
            (lambda: GenerationConfig(logit_bias={-1: 0}), ["GenerationConfig.logit_bias.-1"]),
            (lambda: GenerationConfig(stop=""), ["GenerationConfig.stop.0"]),
            (lambda: GenerationConfig(stop=[5]), ["GenerationConfig.stop.0"]),
            (lambda: ConvConfig(stop_token_ids=[-1]), ["ConvConfig.stop_token_ids.0", -1]),
            (lambda: ConvConfig(seps=[]), ["ConvConfig.seps"]),
            (lambda: ConvConfig(seps=["", "", ""]), ["ConvConfig.seps"]),
            (lambda: ConvConfig(roles=["U", "A"]), ["ConvConfig.roles"]),
            (lambda: ChatConfig(tensor_parallel_shards=2), ["tensor_parallel_shards", 2]),
            (lambda: ChatConfig(conv_template=5), ["template"]),
            (lambda: ChatConfig(conv_config=GenerationConfig()), ["ChatConfig.conv_config"]),
            (lambda: ChatConfig(conv_config={1: 2}), ["ChatConfig.conv_config", "mapping"]),
            (
                lambda: GenerationConfig(n=0, top_p=2),
                ["GenerationConfig.top_p", "not 2", "GenerationConfig.n", "not 0"],
            ),
        ],
    )
    def test_the_rest(self, make: Any, named: list[str | int]) -> None:
        with raises("config-invalid", *named, error=ConfigError):
            make()

    @pytest.mark.parametrize("name", [n for n in RANGES if n in ModelFile.model_fields])
    def test_of_a_models_file(self, name: str, tmp_path: Path) -> None:
        wanted, _, outside = RANGES[name]
        for value in [*outside, "1", True, math.nan]:
            if (value == 0 and name.endswith("window_size")) or (value == 0 and "chunk" in name):
                continue  # There it means "not given".
            path = written(tmp_path, **{name: value})
            named = (path, f"{name} ", f"not {value!r}", *limits(wanted))
            with raises("model-config-invalid", *named, error=ModelFolderError):
                ModelFile.load(path)
