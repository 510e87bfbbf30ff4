"""Frequencies of rotary position embeddings, against transformers and numbers taken from it."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_llm.model.rope import KNOWN_TYPES, depends_on_window, rope
from mlc_llm.plugin import Rope


@dataclass(frozen=True)
class Model:
    """A model's RoPE, and what else transformers' config class must be told for it."""

    classes: str
    head_dim: int
    theta: float
    scaling: Mapping[str, Any]
    max_positions: int
    part: float | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def rope(self, window: int | None = None) -> Rope:
        return rope(
            self.head_dim,
            self.theta,
            self.scaling,
            window=window,
            max_positions=self.max_positions,
            partial_rotary_factor=self.part,
        )


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
QWEN_YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
DEEPSEEK_YARN = {
    "type": "yarn",
    "factor": 40,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 4096,
}
GPT_OSS_YARN = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}
# Phi's own lists rise in the same way.
LONGROPE = {
    "type": "longrope",
    "short_factor": [1 + 0.01 * i for i in range(48)],
    "long_factor": [1 + 1.3 * i for i in range(48)],
    "original_max_position_embeddings": 4096,
}
DYNAMIC = {"type": "dynamic", "factor": 2.0}
LINEAR = {"type": "linear", "factor": 4.0}
PROPORTIONAL = {"rope_type": "proportional", "partial_rotary_factor": 0.25}

MODELS = {
    "Llama-2": Model("Llama", 128, 1e4, {}, 4096),
    "linear": Model("Llama", 128, 1e4, LINEAR, 16384),
    "dynamic": Model("Llama", 128, 1e4, DYNAMIC, 4096),
    "Llama-3.1": Model("Llama", 128, 5e5, LLAMA3, 131072),
    "Llama-3.2-1B": Model("Llama", 64, 5e5, LLAMA3 | {"factor": 32.0}, 131072),
    "Qwen2.5": Model("Qwen2", 128, 1e6, QWEN_YARN, 131072),
    "DeepSeek-V3": Model(
        "DeepseekV3", 64, 1e4, DEEPSEEK_YARN, 163840, config={"qk_rope_head_dim": 64}
    ),
    "DeepSeek, other mscale": Model(
        "DeepseekV3",
        64,
        1e4,
        DEEPSEEK_YARN | {"mscale_all_dim": 0.707},
        163840,
        config={"qk_rope_head_dim": 64},
    ),
    "yarn with a factor of its own": Model(
        "Llama", 64, 1e4, QWEN_YARN | {"attention_factor": 0.75, "beta_fast": 16}, 131072
    ),
    "gpt-oss": Model("GptOss", 64, 150000.0, GPT_OSS_YARN, 131072, config={"head_dim": 64}),
    "Phi-3": Model(
        "Phi3", 96, 1e4, LONGROPE, 131072, config={"original_max_position_embeddings": 4096}
    ),
    "Phi-4-mini": Model(
        "Phi3", 128, 1e4, LONGROPE, 131072, 0.75, {"original_max_position_embeddings": 4096}
    ),
    "Phi-2": Model("Phi", 80, 1e4, {}, 2048, 0.4),
    "GPT-NeoX": Model("GPTNeoX", 96, 1e4, {}, 2048, 0.25, {"rotary_pct": 0.25}),
    "Gemma 4, full attention": Model("Llama", 512, 1e6, PROPORTIONAL, 131072),
}

Rotary = Callable[[Model, int], tuple[np.ndarray, float]]


@pytest.fixture(scope="session")
def rotary(transformers: Any, torch: Any) -> Rotary:
    """Frequencies and factor of a model's class after a sequence of some length."""

    def rotary(model: Model, length: int) -> tuple[np.ndarray, float]:
        parameters = {"rope_theta": model.theta, "rope_type": "default", **model.scaling}
        parameters["rope_type"] = model.scaling.get("type", parameters["rope_type"])
        part = {} if model.part is None else {"partial_rotary_factor": model.part}
        config_class = getattr(transformers, f"{model.classes}Config")
        config = config_class(
            hidden_size=2 * model.head_dim,
            num_attention_heads=2,
            max_position_embeddings=model.max_positions,
            **{"rope_parameters": parameters, **part, **model.config},
        )
        module = config_class.__module__.replace("configuration_", "modeling_")
        layer = getattr(importlib.import_module(module), f"{model.classes}RotaryEmbedding")(config)
        layer(torch.zeros(1), torch.tensor([[length - 1]]))
        return layer.inv_freq.numpy(), layer.attention_scaling

    return rotary


def check(actual: Rope, frequencies: Any, factor: float, rtol: float = 1e-6) -> None:
    np.testing.assert_allclose(actual.frequencies, frequencies, rtol=rtol, atol=0)
    assert actual.factor == pytest.approx(factor, rel=1e-15)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("window", [None, 2048, 4096, 4097, 32768])
def test_as_transformers_for_a_sequence_that_fills_the_window(
    rotary: Rotary, name: str, window: int | None
) -> None:
    model = MODELS[name]
    check(model.rope(window), *rotary(model, window or model.max_positions))


# What transformers 5.24 computes: index of the pair and its frequency, then the factor.
RECORDED = {
    ("Llama-2", None): ({0: 1.0, 1: 0.86596435, 32: 0.01, 63: 0.00011547819}, 1.0),
    ("linear", None): ({0: 0.25, 1: 0.21649109, 32: 0.0025, 63: 2.8869548e-05}, 1.0),
    ("dynamic", 2048): ({0: 1.0, 1: 0.86596435, 32: 0.01, 63: 0.00011547819}, 1.0),
    ("dynamic", 16384): ({0: 1.0, 1: 0.8396258, 32: 0.0037217215, 63: 1.6496886e-05}, 1.0),
    ("Llama-3.1", None): ({1: 0.8146172, 32: 0.000524846, 63: 3.068926e-07}, 1.0),
    ("Qwen2.5", None): ({1: 0.8058422, 32: 0.00060294115, 63: 3.1023444e-07}, 1.138629436111989),
    ("DeepSeek, other mscale", None): (
        {1: 0.7498942, 16: 0.0055000004, 31: 3.3338035e-06},
        1.0857263992561355,
    ),
    ("gpt-oss", None): ({1: 0.6890443, 16: 0.00045648392, 31: 3.0235114e-07}, 1.3465735902799727),
    ("Phi-3", 4096): ({1: 0.81723183, 24: 0.008064516, 47: 8.241684e-05}, 1.1902380714238083),
    ("Phi-3", 4097): ({1: 0.3588714, 24: 0.000310559, 47: 1.95093e-06}, 1.1902380714238083),
    ("Phi-2", None): ({1: 0.56234133, 8: 0.01, 15: 0.00017782794}, 1.0),
    ("Gemma 4, full attention", None): ({0: 1.0, 1: 0.9474635, 64: 0.0, 255: 0.0}, 1.0),
}


@pytest.mark.parametrize(("name", "window"), RECORDED)
def test_recorded_numbers(name: str, window: int | None) -> None:
    frequencies, factor = RECORDED[name, window]
    actual = MODELS[name].rope(window)
    check(
        Rope(tuple(actual.frequencies[i] for i in frequencies), actual.factor),
        list(frequencies.values()),
        factor,
    )


class TestFields:
    def test_plain_rope_by_its_definition(self) -> None:
        expected = [1e4 ** (-2 * i / 64) for i in range(32)]
        for scaling in (None, {}, {"rope_type": "default"}, {"rope_type": None, "type": None}):
            check(rope(64, 1e4, scaling), expected, 1.0)

    def test_frequencies_are_float32_numbers(self) -> None:
        frequencies = rope(64, 1e4, LINEAR).frequencies
        assert all(type(f) is float and float(np.float32(f)) == f for f in frequencies)

    def test_the_pairing_is_passed_on(self) -> None:
        assert not rope(64, 1e4).interleaved
        assert rope(64, 1e4, interleaved=True).interleaved

    def test_the_type_stands_under_either_name_and_the_new_one_counts(self) -> None:
        linear = {"rope_type": "linear", "factor": 4.0}
        assert rope(64, 1e4, linear) == rope(64, 1e4, LINEAR)
        assert rope(64, 1e4, linear | {"type": "mrope"}) == rope(64, 1e4, LINEAR)

    def test_su_is_longrope(self) -> None:
        old = LONGROPE | {"type": "su"}
        assert rope(96, 1e4, old, max_positions=131072) == MODELS["Phi-3"].rope()

    def test_the_object_says_first_how_much_of_a_head_turns(self) -> None:
        assert len(rope(80, 1e4, partial_rotary_factor=0.4).frequencies) == 16
        both = rope(80, 1e4, {"partial_rotary_factor": 0.5}, partial_rotary_factor=0.4)
        assert len(both.frequencies) == 20

    def test_theta_counts_and_not_that_of_the_object(self) -> None:
        assert rope(64, 1e6, {"rope_theta": 1e4}) == rope(64, 1e6)

    def test_what_yarn_leaves_out_follows_from_the_models_length(self) -> None:
        given = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
        for name, max_positions in {
            "factor": 131072,
            "original_max_position_embeddings": 32768,
        }.items():
            left_out = {key: value for key, value in given.items() if key != name}
            assert rope(128, 1e6, left_out, max_positions=max_positions) == rope(128, 1e6, given)

    def test_one_mscale_alone_counts_for_nothing(self) -> None:
        for fields in ({"mscale": 0.7}, {"mscale": 0.7, "mscale_all_dim": 0}):
            assert rope(128, 1e6, QWEN_YARN | fields) == rope(128, 1e6, QWEN_YARN)

    def test_longrope_needs_no_length_where_all_is_given(self) -> None:
        plain = MODELS["Phi-3"].rope(8192)
        stretched = rope(96, 1e4, LONGROPE | {"factor": 32}, window=8192)
        assert stretched == plain
        fixed = rope(96, 1e4, LONGROPE | {"attention_factor": 2}, window=8192)
        assert (fixed.frequencies, fixed.factor) == (plain.frequencies, 2.0)


class TestWindow:
    @pytest.mark.parametrize("name", MODELS)
    def test_only_dynamic_and_longrope_depend_on_it(self, name: str) -> None:
        model = MODELS[name]
        differ = len({model.rope(window) for window in (None, 64, 4096, 200000)}) > 1
        kind = model.scaling.get("rope_type", model.scaling.get("type"))
        assert depends_on_window(model.scaling) == differ == (kind in ("dynamic", "longrope"))

    def test_none_is_the_models_own_length(self) -> None:
        for model in MODELS.values():
            assert model.rope() == model.rope(model.max_positions)

    def test_no_scaling_does_not_depend_on_it(self) -> None:
        assert not depends_on_window(None)
        assert depends_on_window(LONGROPE | {"type": "su"})

    @given(
        factor=st.floats(1, 64),
        window=st.integers(4097, 2**20),
        head_dim=st.sampled_from([4, 64, 128]),
    )
    def test_dynamic_divides_the_lowest_frequency_and_keeps_the_highest(
        self, factor: float, window: int, head_dim: int
    ) -> None:
        scaling = {"rope_type": "dynamic", "factor": factor}
        plain = rope(head_dim, 1e4).frequencies
        long = rope(head_dim, 1e4, scaling, window=window, max_positions=4096).frequencies
        assert long[0] == 1
        assert plain[-1] / long[-1] == pytest.approx(factor * window / 4096 - factor + 1, rel=1e-5)


factors = st.sampled_from([0.5, 1, 1.5, 2.0]) | st.floats(1, 64)
lengths = st.sampled_from([64, 4096, 131072])
betas = st.sampled_from([0.5, 1, 4, 32.0])
mscales = st.just(0) | st.floats(0.1, 2)
SCALINGS = {
    "linear": st.fixed_dictionaries({"factor": factors}),
    "dynamic": st.fixed_dictionaries({"factor": factors}),
    "llama3": st.fixed_dictionaries(
        {
            "factor": st.floats(1, 8),
            "low_freq_factor": st.floats(0.5, 2),
            "high_freq_factor": st.floats(3, 8),
            "original_max_position_embeddings": lengths,
        }
    ),
    "yarn": st.fixed_dictionaries(
        {"factor": factors, "original_max_position_embeddings": lengths},
        optional={
            "beta_fast": betas,
            "beta_slow": betas,
            "mscale": mscales,
            "mscale_all_dim": mscales,
            "attention_factor": st.floats(0.5, 2),
            "truncate": st.booleans(),
        },
    ),
    "longrope": st.fixed_dictionaries(
        {
            "short_factor": st.lists(factors, min_size=48, max_size=48),
            "long_factor": st.lists(factors, min_size=48, max_size=48),
            "original_max_position_embeddings": lengths,
        },
        optional={"factor": factors, "attention_factor": st.floats(0.5, 2)},
    ),
    "proportional": st.fixed_dictionaries({}, optional={"factor": factors}),
}


@pytest.mark.parametrize("kind", SCALINGS)
def test_any_fields_as_transformers(transformers: Any, kind: str) -> None:
    initial = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS[kind]

    @given(
        scaling=SCALINGS[kind],
        theta=st.sampled_from([50.0, 1e4, 150000.0, 1e6]),
        part=st.sampled_from([1.0, 0.5]),
        window=lengths,
    )
    def compare(scaling: dict[str, Any], theta: float, part: float, window: int) -> None:
        head_dim = 96 if part == 1 else 192
        scaling = {"rope_type": kind, "partial_rotary_factor": part, **scaling}
        config = transformers.LlamaConfig(
            head_dim=head_dim,
            max_position_embeddings=4096,
            rope_parameters={"rope_theta": theta, **scaling},
        )
        frequencies, factor = initial(config, "cpu", seq_len=window)
        actual = rope(head_dim, theta, scaling, window=window, max_positions=4096)
        # Llama 3 subtracts numbers of waves, so that a last bit of theirs weighs more.
        check(actual, frequencies.numpy(), factor, 2e-6 if kind == "llama3" else 3e-7)

    compare()


def without(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


class TestErrors:
    @pytest.mark.parametrize("kind", ["mrope", "ntk", 3, ["yarn"], ""])
    def test_an_unknown_type_lists_the_known_ones(self, kind: Any) -> None:
        for call in (depends_on_window, lambda scaling: rope(64, 1e4, scaling)):
            with pytest.raises(ValueError, match=f".*{', '.join(KNOWN_TYPES)}") as error:
                call({"rope_type": kind, "factor": 2.0})
            assert repr(kind) in str(error.value)

    @pytest.mark.parametrize(
        ("scaling", "name"),
        [
            ({"factor": 2.0}, "rope_type"),
            ({"rope_type": "linear"}, "factor"),
            ({"rope_type": "linear", "factor": None}, "factor"),
            ({"rope_type": "dynamic"}, "factor"),
            (without(LLAMA3, "low_freq_factor"), "low_freq_factor"),
            (without(LLAMA3, "original_max_position_embeddings"), "original_max_position"),
            ({"rope_type": "yarn"}, "original_max_position_embeddings"),
            (DYNAMIC, "max_position_embeddings"),
            (without(QWEN_YARN, "factor"), "max_position_embeddings"),
            (LONGROPE, "max_position_embeddings"),
            (without(LONGROPE, "long_factor"), "long_factor"),
            (without(LONGROPE, "original_max_position_embeddings"), "original_max_position"),
        ],
    )
    def test_a_missing_field_is_named(self, scaling: dict[str, Any], name: str) -> None:
        with pytest.raises(ValueError, match=f"{name}.* must be given"):
            rope(96, 1e4, scaling)

    @pytest.mark.parametrize(
        ("scaling", "name"),
        [
            (LINEAR | {"factor": "two"}, "factor"),
            (LINEAR | {"factor": 0}, "factor"),
            (LINEAR | {"factor": -2.0}, "factor"),
            (LINEAR | {"factor": True}, "factor"),
            (LINEAR | {"factor": math.nan}, "factor"),
            (LINEAR | {"factor": math.inf}, "factor"),
            (LINEAR | {"factor": 10**400}, "factor"),
            (LINEAR | {"factor": 1e-40}, "factor"),
            (LLAMA3 | {"high_freq_factor": 1.0}, "high_freq_factor"),
            (QWEN_YARN | {"truncate": 0}, "truncate"),
            (QWEN_YARN | {"beta_fast": [32]}, "beta_fast"),
            (DEEPSEEK_YARN | {"mscale": "1"}, "mscale"),
            (QWEN_YARN | {"attention_factor": 0}, "attention_factor"),
            (QWEN_YARN | {"original_max_position_embeddings": 1}, "original_max_position"),
            (LONGROPE | {"short_factor": [1.0] * 47}, "short_factor"),
            (LONGROPE | {"long_factor": [1.0] * 47 + [0]}, r"long_factor\[47\]"),
            (LONGROPE | {"long_factor": 4.0}, "long_factor"),
            ({"partial_rotary_factor": 1.5}, "partial_rotary_factor"),
            ({"partial_rotary_factor": 0}, "partial_rotary_factor"),
            ({"partial_rotary_factor": 0.04}, "partial_rotary_factor"),
            ({"partial_rotary_factor": 0.01}, "partial_rotary_factor"),
            (DYNAMIC | {"alpha": 1000.0}, "alpha"),
            (LONGROPE | {"short_mscale": 1.2}, "short_mscale"),
            ({"full_attention": LLAMA3, "sliding_attention": {}}, "full_attention"),
            ("yarn", "yarn"),
        ],
    )
    def test_a_wrong_field_is_named(self, scaling: Any, name: str) -> None:
        with pytest.raises(ValueError, match=f"{name}.*must|must.*{name}"):
            rope(96, 1e4, scaling, max_positions=131072, window=8192)

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            ({"head_dim": 63}, "head_dim"),
            ({"head_dim": 0}, "head_dim"),
            ({"theta": 1.0}, "theta"),
            ({"theta": "10000"}, "theta"),
            ({"window": -1}, "window"),
            ({"max_positions": 0}, "max_position_embeddings"),
            ({"partial_rotary_factor": 2.0}, "partial_rotary_factor"),
        ],
    )
    def test_a_wrong_argument_is_named(self, arguments: dict[str, Any], name: str) -> None:
        with pytest.raises(ValueError, match=f"{name}.*must be"):
            rope(**({"head_dim": 64, "theta": 1e4} | arguments))

    def test_dynamic_has_no_theta_for_one_pair(self) -> None:
        with pytest.raises(ValueError, match="dynamic"):
            rope(2, 1e4, DYNAMIC, window=8192, max_positions=4096)


numbers = st.floats() | st.integers() | st.sampled_from([0.5, 1, 2, 32, 4096])
anything = st.none() | numbers | st.booleans() | st.text(max_size=2) | st.lists(numbers, max_size=4)
NAMES = sorted({*LLAMA3, *DEEPSEEK_YARN, *GPT_OSS_YARN, *LONGROPE, *PROPORTIONAL} - {"type"})


@given(
    head_dim=st.sampled_from([2, 4, 8]),
    theta=numbers,
    kind=st.sampled_from(KNOWN_TYPES),
    fields=st.dictionaries(st.sampled_from(NAMES), anything),
    sizes=st.fixed_dictionaries({}, optional={"window": numbers, "max_positions": numbers}),
)
def test_whatever_a_file_says_gives_finite_numbers_or_a_value_error(
    head_dim: int, theta: Any, kind: str, fields: dict[str, Any], sizes: dict[str, Any]
) -> None:
    try:
        result = rope(head_dim, theta, fields | {"rope_type": kind}, **sizes)
    except ValueError:
        return
    assert 1 <= len(result.frequencies) <= head_dim // 2
    assert all(math.isfinite(f) and f >= 0 for f in (*result.frequencies, result.factor))
