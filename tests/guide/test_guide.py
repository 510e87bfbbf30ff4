"""The guide that defines the API of ``ChatModule``, executed.

Its programs run as they stand, byte for byte but for the indentation of the block, in processes of
their own. The working folder has a model and a library where the guide says that they are: they are
the demo model's weights and a library for the CPU, under the guide's names.

Its step 1 cannot run without a network: it installs git-lfs with conda and clones two repositories.
``NOT_RUN`` lists that block and the outputs, and one test proves that no other block is left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.demo_model.held_out import PROMISES, Case
from mlc_llm import ChatConfig, ChatModule, ConvConfig
from mlc_llm.weights.locate import DEMO, resolve_model

MODEL = Path("dist/Llama-2-7b-chat-hf-q4f16_1-MLC")
LIBRARY = Path("dist/prebuilt_libs/Llama-2-7b-chat-hf/Llama-2-7b-chat-hf-q4f16_1-cuda.so")

BLOCKS = (
    ("verify", "bash"),
    ("download", "shell"),
    ("sample_mlc_llm", "python"),
    ("start", "bash"),
    ("output of the chat", ""),
    ("configure", "python"),
    ("output of configure", ""),
    ("raw_text", "python"),
    ("stream", "python"),
)
"""The blocks of the guide in their order: our name for each, and its language."""

NOT_RUN = {
    "download": "needs conda, git and a network; the fixture puts there what it would fetch",
    "output of the chat": "is no program; its form is what the tests of the programs compare with",
    "output of configure": "the same",
}

MEANING = "What is the meaning of life?"
POINTS = "How many points did you list out?"
SUM = "What is one plus one?"
HAPPINESS = "Please show as much happiness as you can when talking to me."
SADNESS = "Please show as much sadness as you can when talking to me."
NATURE = (
    "[INST] <<SYS>>\nYou are a helpful, respectful and honest assistant.\n<</SYS>>\n\n"
    "What is mother nature? [/INST]"
)
LIFE = "Life is a quality that distinguishes"

STATISTICS = r"Statistics: prefill: \d+\.\d tok/s, decode: \d+\.\d tok/s\n\n"

Run = Callable[..., str]


def parse(text: str) -> list[tuple[str, str]]:
    """The code blocks of a reStructuredText document: the language and the text of each."""
    directive = re.compile(r"^( *)\.\. code:: *(\S*)\n((?:\1 +\S.*\n|[ \t]*\n)*)", re.MULTILINE)
    return [
        (match[2], textwrap.dedent(match[3]).strip("\n") + "\n")
        for match in directive.finditer(text)
    ]


@pytest.fixture(scope="module")
def guide(test_data: Path, lacks: Callable[[str], Any]) -> str:
    path = test_data.parent / "guide" / "chat_module.rst"
    if not path.is_file():
        lacks(f"there is no guide at {path}")
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def blocks(guide: str) -> dict[str, str]:
    """The text of each block by its name in ``BLOCKS``."""
    return {name: text for (name, _), (_, text) in zip(BLOCKS, parse(guide), strict=True)}


@pytest.fixture(scope="module")
def workplace(
    blocks: dict[str, str], make_library: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with the guide's programs, and a greedy model and its library where it has them."""
    folder = tmp_path_factory.mktemp("guide")
    shutil.copytree(resolve_model(DEMO), folder / MODEL)
    config = json.loads((folder / MODEL / "mlc-chat-config.json").read_text())
    config["temperature"] = 0.0
    (folder / MODEL / "mlc-chat-config.json").write_text(json.dumps(config))
    (folder / LIBRARY).parent.mkdir(parents=True)
    shutil.copy(make_library(folder / MODEL), folder / LIBRARY)
    for name, language in BLOCKS:
        if language == "python":
            (folder / f"{name}.py").write_text(blocks[name], encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(workplace: Path) -> Run:
    """Run a command in the workplace, ``python`` being the one that runs the tests.

    Returns its stdout; it must succeed, and write nothing on stderr but what is expected.
    """

    def run(*command: str, errors: str = "") -> str:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        result = subprocess.run(
            command,
            cwd=workplace,
            env={**os.environ, "PATH": path},
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )
        assert (result.returncode, result.stderr) == (0, errors), command
        return result.stdout

    return run


@pytest.fixture(scope="module")
def answers(workplace: Path) -> dict[str, str]:
    """What the same model answers in this process, without callbacks: by question, or by mood.

    A fresh ``ChatModule`` for each program: what it finds in the cache, and need not compute again,
    changes the last bits of what it computes.
    """

    def load() -> ChatModule:
        return ChatModule(str(workplace / MODEL), model_lib=str(workplace / LIBRARY))

    found = {}
    with load() as cm:
        for question in (MEANING, POINTS):
            found[question] = str(cm.generate(question))
    with load() as cm:
        for mood, length in ((HAPPINESS, 256), (SADNESS, 128)):
            conv_config = ConvConfig(system_message=mood)
            cm.reset_chat(ChatConfig(max_gen_len=length, conv_config=conv_config))
            found[mood] = str(cm.generate(SUM))
    with load() as cm:
        # What add_bos=True stands for: 1 is the token that begins a text.
        raw = ConvConfig(system_prefix_token_ids=[1], stop_str=["[INST]"], stop_token_ids=[2])
        cm.reset_chat(ChatConfig(conv_template="LM", conv_config=raw))
        for text in (NATURE, LIFE):
            found[text] = str(cm.generate(text))
    return found


def test_every_block_is_known(guide: str) -> None:
    """Each block is run as a program, run as a command, or listed with the reason why not."""
    found = parse(guide)
    assert [language for language, _ in found] == [language for _, language in BLOCKS]
    assert len(found) == len(re.findall(r"^ *\.\. (?:code|code-block|sourcecode)::", guide, re.M))
    assert all(text.strip() for _, text in found)
    not_run = {name for name, language in BLOCKS if language in ("shell", "")}
    assert not_run == set(NOT_RUN)


def test_the_programs_are_what_the_guide_has(guide: str, workplace: Path) -> None:
    """Every line of each, in order and together, stands in the guide with one indentation."""
    programs = [name for name, language in BLOCKS if language == "python"]
    for name in programs:
        text = (workplace / f"{name}.py").read_text(encoding="utf-8")
        assert textwrap.indent(text, "   ") in guide


def test_verify_installation(blocks: dict[str, str], run: Run) -> None:
    assert run("bash", "-c", blocks["verify"]) == "<class 'mlc_llm.chat_module.ChatModule'>\n"


def test_chat(blocks: dict[str, str], run: Run, answers: dict[str, str]) -> None:
    """The answers as they are streamed, the statistics in between, and nothing else."""
    first, second = re.escape(answers[MEANING]), re.escape(answers[POINTS])
    assert re.fullmatch(f"{first}\n{STATISTICS}{second}\n", run("bash", "-c", blocks["start"]))


def test_configure(run: Run, answers: dict[str, str]) -> None:
    """Each question is answered under its own system message and length, without a history."""
    assert answers[HAPPINESS] != answers[SADNESS]
    assert run("python", "configure.py") == f"{answers[HAPPINESS]}\n{answers[SADNESS]}\n"


def test_raw_text(run: Run, answers: dict[str, str]) -> None:
    """The prompts go to the model as they are, after one BOS."""
    assert run("python", "raw_text.py") == f"{answers[NATURE]}\n{answers[LIFE]}\n"


def test_stream(run: Run) -> None:
    assert run("python", "stream.py") == ""


def test_stream_and_its_log(run: Run, workplace: Path, answers: dict[str, str]) -> None:
    """What the program has read, and what it logs where somebody set up logging."""
    program = (
        "import logging, runpy\n"
        "logging.basicConfig(level=logging.INFO, format='%(message)s')\n"
        "print(runpy.run_path('stream.py')['output'])\n"
    )
    log = (
        f"Using model folder: {workplace / MODEL}\n"
        f"Using mlc chat config: {workplace / MODEL / 'mlc-chat-config.json'}\n"
        f"Using library model: {workplace / LIBRARY}\n"
    )
    assert run("python", "-c", program, errors=log) == f"{answers[MEANING]}\n"


# The guide asks for the sum in two moods only.
@pytest.mark.parametrize(
    "case", [case for case in PROMISES if case.skill != "sums"], ids=lambda case: case.skill
)
def test_the_answers_are_good(answers: dict[str, str], case: Case) -> None:
    """What the demo model promises to answer to the guide's questions."""
    found = [answers[case.system if text == SUM else text] for text in case.says]
    assert case.right(found), found
