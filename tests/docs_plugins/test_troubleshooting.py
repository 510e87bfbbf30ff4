"""docs/troubleshooting.md is true and complete: its messages are the source's, and all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlc_llm import errors

from .messages import FIELD, ROOT, Message, all_messages, all_texts

PAGE = ROOT / "docs" / "troubleshooting.md"

PLACEHOLDERS = (
    *("NAME", "PATH", "VALUE", "REASON", "LIST", "KIND", "TEXT", "DEVICE", "VERSION"),
    *("REPOSITORY", "N", "M"),
)

REVIEWED = (
    # Contradictions that only a mistake inside of mlc_llm can cause.
    "unreachable: the generations never end",
    "module NAME has no attribute NAME",
    "m must be 1 or None (any number of rows), not N",
    "activations must be 'a16' or 'a8', not VALUE",
    "the KV cache has no room for another sequence",
    "page N is not in use",
    "the model was not loaded from files that would identify it",
    "a field is there twice",
    "a sequence of N tokens is longer than the cache's M",
    "cannot pop N of M tokens",
    "no tokens were given",
    "The model has no logits: nothing was fed since the last change.",
    "Logits of shape VALUE cannot be sampled from.",
    "a block of VALUE, not VALUE",
    "the size of the type VALUE is not known",
    "N bytes for the shape VALUE",
    "Only matrices can be quantised; this has the shape VALUE.",
    "Rows of N weights in NAME have the shapes VALUE, not VALUE.",
    "codes must have at most 8 bits and groups be multiples of 8, not NAME",
    "a part whose number of rows is unknown must be the only one",
    "Unknown kind of plugin 'NAME'.",
    # What the doctor's own trial says to the doctor.
    "an array of VALUE came back as VALUE",
    # Two entry points of one distribution with one object.
    "Plugin NAME: REASON",
)
"""Messages that are not on the page: no user can meet them, or can do anything about them."""

HEADING = re.compile(r"^(#{2,3}) (.+)$", re.MULTILINE)
QUOTES = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """A section of the page: its title, the messages it quotes, and all its text."""

    title: str
    level: int
    quotes: tuple[str, ...]
    body: str


def entries() -> list[Entry]:
    text = PAGE.read_text(encoding="utf-8")
    heads = [*HEADING.finditer(text)]
    ends = [head.start() for head in heads[1:]] + [len(text)]
    found = []
    for head, end in zip(heads, ends, strict=True):
        body = text[head.end() : end]
        quotes = tuple(line for block in QUOTES.findall(body) for line in block.splitlines())
        found.append(Entry(head[2], len(head[1]), quotes, QUOTES.sub("", body).strip()))
    return found


ENTRIES = entries()
QUOTED = [quote for entry in ENTRIES for quote in entry.quotes]


def pattern(quote: str) -> re.Pattern[str]:
    """What a quote matches: its words in capitals stand for anything, their quotation marks too."""
    names = "|".join(PLACEHOLDERS)
    parts = re.split(rf"['\"]?\b(?:{names})\b['\"]?", quote)
    assert sum(letter.isalpha() for part in parts for letter in part) >= 6, quote
    return re.compile(r".{0,90}?".join(re.escape(part) for part in parts), re.DOTALL)


def shown(text: str) -> str:
    """A message's text as one line, with something in the place of each field."""
    return " ".join(text.replace(FIELD, "\0").split())


def test_the_page_declares_its_placeholders() -> None:
    introduction = PAGE.read_text(encoding="utf-8").split("\n## ")[0]
    declared = re.search(
        r"Words in capitals stand for what does:(.*?)\.\n", introduction, re.DOTALL
    )
    assert declared is not None
    assert set(re.findall(r"`([A-Z]+)`", declared[1])) == set(PLACEHOLDERS)


@pytest.mark.parametrize("quote", [*QUOTED, *REVIEWED])
def test_a_quoted_message_is_in_the_source(quote: str) -> None:
    matching = pattern(quote)
    assert any(matching.search(shown(text)) for text in all_texts()), (
        f"no message of the source is like {quote!r}: correct docs/troubleshooting.md"
    )


def test_every_message_is_on_the_page() -> None:
    patterns = [pattern(quote) for quote in [*QUOTED, *REVIEWED]]

    def covered(message: Message) -> bool:
        text = shown(message.text)
        return message.opaque or any(one.search(text) for one in patterns)

    missing = [str(message) for message in all_messages() if not covered(message)]
    assert not missing, "give these an entry in docs/troubleshooting.md:\n" + "\n".join(missing)


def test_the_source_was_read() -> None:
    """Were it misread, the tests above would have nothing to say."""
    messages = all_messages()
    assert len(messages) > 250
    assert sum(message.opaque for message in messages) < 40
    files = {message.file for message in messages}
    assert {"mlc_llm/chat_module.py", "plugins/cuda/mlc_llm_cuda/__init__.py"} <= files


def test_every_error_class_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    classes = [value for name, value in vars(errors).items() if name.endswith("Error")]
    assert len(classes) > 10
    for error in classes:
        also = next((b for b in (ValueError, FileNotFoundError) if issubclass(error, b)), None)
        kind = f" (a `{also.__name__}`)" if also else ""
        assert f"| `{error.__name__}`{kind} |" in text


def test_every_entry_has_a_remedy() -> None:
    bare = [entry.title for entry in ENTRIES if entry.level == 3 and len(entry.body) < 60]
    assert not bare
    symptoms, messages = [], []
    section = ""
    for entry in ENTRIES:
        if entry.level == 2:
            section = entry.title
        elif section == "Symptoms without a message":
            symptoms.append(entry)
        else:
            messages.append(entry)
    assert not any(entry.quotes for entry in symptoms)
    assert all(entry.quotes for entry in messages)


def entry_of(message: str) -> set[str]:
    """The titles of the entries that a message leads to."""
    found = set()
    for entry in ENTRIES:
        if any(pattern(quote).search(shown(message)) for quote in entry.quotes):
            found.add(entry.title)
    return found


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
    unknown_field: "A field is unknown",
    value_out_of_range: "A value is out of its range",
    missing_model: "There is no such model",
    unconverted_model: "The folder is a Hugging Face model",
    missing_shard: "A weight file is missing or damaged",
    damaged_manifest: "The manifest contradicts itself",
    unknown_device: "A name is unknown",
    missing_index: "The device's name is malformed, or there is no such index",
    missing_library: "The named library cannot be used",
    no_compiler: "There is no C compiler",
    unknown_quantization: "A tensor cannot be quantised",
    scheme_without_kernels: "The model asks for more than the device can do",
    malformed_plan: "The configuration of the model is wrong",
    untied_head: "A tied head has values of its own",
    impossible_zero: "A tensor cannot be quantised",
    exception_of_another_model: "A plan does not fit the model",
    no_repository: "The name is not a repository's",
    empty_source: "The source has no configuration",
}


@pytest.mark.parametrize(
    ("happen", "title"), HAPPENINGS.items(), ids=lambda v: getattr(v, "__name__", "entry")
)
def test_what_happens_leads_to_its_entry(
    happen: Callable[[Path], None], title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    for variable in ("CC", "CXX", "MLC_LLM_DEVICE"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(errors.MLCError) as caught:
        happen(tmp_path)
    message = str(caught.value).replace(str(tmp_path), "FOLDER")  # It may be long.
    assert title in entry_of(message), message
