"""docs/troubleshooting.md has an entry for each code of an error, and for no other."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlc_llm import errors
from mlc_llm.errors import MLCError

from .pages import DOCS, ROOT

PAGE = DOCS / "troubleshooting.md"

HEADING = re.compile(r"^(#{2,3}) (.+)$", re.MULTILINE)
CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Entry:
    """A section of the page: its title, which is a code or says what happens, and its text."""

    title: str
    level: int
    body: str

    @property
    def is_code(self) -> bool:
        return self.level == 3 and CODE.fullmatch(self.title) is not None


def entries() -> list[Entry]:
    text = PAGE.read_text(encoding="utf-8")
    heads = [*HEADING.finditer(text)]
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return [
        Entry(head[2], len(head[1]), text[head.end() : end].strip())
        for head, end in zip(heads, ends, strict=True)
    ]


def classes() -> list[type[MLCError]]:
    values = vars(errors).values()
    return [value for value in values if isinstance(value, type) and issubclass(value, MLCError)]


def given_codes() -> Iterator[tuple[str, str]]:
    """Each code that stands in the source of the core and of the plugins, and where."""
    for folder in (ROOT / "mlc_llm", *sorted((ROOT / "plugins").glob("*/mlc_llm_*"))):
        for path in sorted(folder.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.keyword) and node.arg == "code":
                    for inner in ast.walk(node.value):
                        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                            place = f"{path.relative_to(ROOT).as_posix()}:{inner.lineno}"
                            yield inner.value, place


ENTRIES = entries()
CODES = [entry.title for entry in ENTRIES if entry.is_code]


def test_each_code_has_an_entry_and_each_entry_a_code() -> None:
    places = dict(given_codes())
    places |= {kind.code: kind.__name__ for kind in classes()}
    missing = [f"{code} ({place})" for code, place in places.items() if code not in CODES]
    assert not missing, "give these an entry in docs/troubleshooting.md: " + ", ".join(missing)
    left_over = set(CODES) - set(places)
    assert not left_over, f"no error has these codes of docs/troubleshooting.md: {left_over}"
    assert len(CODES) == len(set(CODES))


def test_the_source_was_read() -> None:
    """Were it misread, the test above would have nothing to say."""
    given = list(given_codes())
    assert len(given) > 150
    assert all(CODE.fullmatch(code) for code, _ in given)
    assert ("plugin-ambiguous", "mlc_llm/registry/registry.py") in {
        (code, place.split(":")[0]) for code, place in given
    }


def test_every_error_class_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(classes()) > 10
    for error in classes():
        also = next((b for b in (ValueError, FileNotFoundError) if issubclass(error, b)), None)
        kind = f" (a `{also.__name__}`)" if also else ""
        assert f"| `{error.__name__}`{kind} | [`{error.code}`](#{error.code}) |" in text


def test_every_entry_has_a_remedy() -> None:
    assert [e.title for e in ENTRIES if e.level == 3 and len(e.body) < 40] == []


def unknown_field(tmp_path: Path) -> None:
    from mlc_llm import ChatConfig

    ChatConfig(temprature=0.5)


def value_out_of_range(tmp_path: Path) -> None:
    from mlc_llm import GenerationConfig

    GenerationConfig(temperature=-1)


def missing_model(tmp_path: Path) -> None:
    from mlc_llm import ChatModule

    ChatModule(str(tmp_path / "nowhere"))


def unconverted_model(tmp_path: Path) -> None:
    from mlc_llm import ChatModule

    (tmp_path / "config.json").write_text("{}")
    ChatModule(str(tmp_path))


def missing_shard(tmp_path: Path) -> None:
    from mlc_llm import ChatModule
    from mlc_llm.testing import make_model_folder

    folder = make_model_folder(tmp_path / "model")
    (folder / "params_shard_0.bin").unlink()
    ChatModule(str(folder))


def damaged_manifest(tmp_path: Path) -> None:
    from mlc_llm.weights.manifest import Manifest

    (tmp_path / "tensor-cache.json").write_text('{"records": []}')
    Manifest.load(tmp_path / "tensor-cache.json")


def unknown_device(tmp_path: Path) -> None:
    from mlc_llm.registry.choice import choose_device

    choose_device("cpuu")


def missing_index(tmp_path: Path) -> None:
    from mlc_llm.registry.choice import choose_device

    choose_device("cpu:7")


def missing_library(tmp_path: Path) -> None:
    from mlc_llm import ChatModule
    from mlc_llm.testing import make_model_folder

    ChatModule(str(make_model_folder(tmp_path / "model")), model_lib=str(tmp_path / "lib.so"))


def no_compiler(tmp_path: Path) -> None:
    from mlc_llm.compile.compiler import find_compiler

    find_compiler()


def unknown_quantization(tmp_path: Path) -> None:
    from mlc_llm.quantization import plan

    plan("q5f16_1")


def scheme_without_kernels(tmp_path: Path) -> None:
    from mlc_llm.device.cpu import CPU
    from mlc_llm.plugin import Plan, Scheme
    from mlc_llm.quantization.requirement import require_plan

    wide = Scheme(4, "float16", group=128, zero=7)
    plan = Plan(name="wide", dtype="float16", linear=wide, embedding=wide)
    require_plan(plan, CPU, CPU.probe().adapters[0])


def malformed_plan(tmp_path: Path) -> None:
    from mlc_llm import ChatModule
    from mlc_llm.testing import make_model_folder

    folder = make_model_folder(tmp_path / "model")
    config = folder / "mlc-chat-config.json"
    data = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**data, "quantization_plan": {"linear": 4}}))
    ChatModule(str(folder), device="cpu")


def untied_head(tmp_path: Path) -> None:
    from mlc_llm import convert_weight
    from mlc_llm.testing import make_checkpoint

    folder = make_checkpoint(tmp_path / "hf")
    config = folder / "config.json"
    data = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**data, "tie_word_embeddings": True}))
    convert_weight(folder, "q4f16_1", tmp_path / "out")


def impossible_zero(tmp_path: Path) -> None:
    from mlc_llm import convert_weight
    from mlc_llm.plugin import Plan, Scheme
    from mlc_llm.testing import make_checkpoint

    eight = Scheme(4, "float16", group=32, zero=8)
    plan = Plan(name="eight", dtype="float16", linear=eight, embedding=eight)
    convert_weight(make_checkpoint(tmp_path / "hf"), plan, tmp_path / "out")


def exception_of_another_model(tmp_path: Path) -> None:
    from mlc_llm import convert_weight
    from mlc_llm.plugin import Plan, Scheme
    from mlc_llm.testing import make_checkpoint

    four = Scheme(4, "float16", group=32, zero=7)
    exceptions: dict[str, tuple[Scheme, ...]] = {"transformer.h.0.attn.weight": (four,)}
    plan = Plan(name="own", dtype="float16", linear=four, embedding=four, exceptions=exceptions)
    convert_weight(make_checkpoint(tmp_path / "hf"), plan, tmp_path / "out")


def no_repository(tmp_path: Path) -> None:
    from mlc_llm.weights.locate import resolve_model

    resolve_model("HF://only-a-name")


def empty_source(tmp_path: Path) -> None:
    from mlc_llm import convert_weight

    convert_weight(tmp_path, "q4f16_1", tmp_path / "out")


HAPPENINGS: dict[Callable[[Path], None], str] = {
    unknown_field: "field-unknown",
    value_out_of_range: "config-invalid",
    missing_model: "model-not-found",
    unconverted_model: "model-not-converted",
    missing_shard: "shard-missing",
    damaged_manifest: "manifest-malformed",
    unknown_device: "device-unknown",
    missing_index: "device-index-unknown",
    missing_library: "library-unusable",
    no_compiler: "compiler-missing",
    unknown_quantization: "quantization-unknown",
    scheme_without_kernels: "quantization-unsupported",
    malformed_plan: "model-config-invalid",
    untied_head: "head-not-tied",
    impossible_zero: "quantization-invalid",
    exception_of_another_model: "plan-mismatch",
    no_repository: "repository-malformed",
    empty_source: "source-config-missing",
}


@pytest.mark.parametrize(
    ("happen", "code"), HAPPENINGS.items(), ids=lambda v: getattr(v, "__name__", "code")
)
def test_what_happens_has_its_code(
    happen: Callable[[Path], None], code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    for variable in ("CC", "CXX", "MLC_LLM_DEVICE"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(MLCError) as caught:
        happen(tmp_path)
    assert (caught.value.code, code in CODES) == (code, True), str(caught.value)
