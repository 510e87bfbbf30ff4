"""The examples for plugin authors, as a stranger meets them.

They are built as wheels, pip-installed beside the core into a fresh virtual environment, and used
from ``ChatModule`` by name, in processes of their own in which nothing is registered by hand.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlc_llm.library.record import read_record
from mlc_llm.testing.model_folder import FIRST_BYTE, make_checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "plugins"

EXAMPLE_PLUGINS = {
    ("conversation template", "alpaca", "mlc-llm-alpaca"),
    ("library provider", "shelf", "mlc-llm-shelf"),
    ("device", "cpu-portable", "mlc-llm-cpu-portable"),
    ("architecture", "opt", "mlc-llm-opt"),
    ("architecture", "arcee", "mlc-llm-arcee"),
    ("observer", "diary", "mlc-llm-diary"),
    ("catalogue", "favourites", "mlc-llm-favourites"),
}

PROMPT = "Once upon a time"
PROMPT_IDS = [1, *(FIRST_BYTE + byte for byte in PROMPT.encode())]
ANSWER = 24

CONVERT = """
import sys
from mlc_llm import convert_weight, gen_config
source, output = sys.argv[1:]
convert_weight(source, "q0f32", output)
gen_config(source, "q0f32", "LM", output)
"""

CHAT = """
import json, logging, sys
import mlc_llm
from mlc_llm import ChatConfig, ChatModule, GenerationConfig
logged = []
handler = logging.Handler()
handler.emit = lambda record: logged.append(record.getMessage())
logging.getLogger("mlc_llm").addHandler(handler)
logging.getLogger("mlc_llm").setLevel(logging.DEBUG)
model, device, template, prompt, tokens = sys.argv[1:]
config = ChatConfig(conv_template=template, temperature=0.0)
settings = GenerationConfig(max_gen_len=int(tokens), logprobs=0)
with ChatModule(model, device, config) as chat:
    text = chat.generate(prompt, settings)
    result = chat.results[0]
    answer = {"core": mlc_llm.__file__, "device": chat.device, "library": chat.model_lib,
              "text": text, "token_ids": result.token_ids, "prompt_tokens": result.prompt_tokens,
              "logprobs": [token.logprob for token in result.logprobs], "logged": logged}
print(json.dumps(answer))
"""

TOO_LONG = """
import sys
from mlc_llm import ChatConfig, ChatModule, gen_config
from mlc_llm.errors import MLCError
checkpoint, folder = sys.argv[1:]
longer = ChatConfig(context_window_size=101)
def tried(attempt):
    try:
        attempt()
    except MLCError as error:
        print(error)
tried(lambda: gen_config(checkpoint, "q0f32", "LM", folder + "-long", context_window_size=101))
tried(lambda: ChatModule(folder, "cpu", longer))
with ChatModule(folder, "cpu") as chat:
    tried(lambda: chat.reset_chat(longer))
"""


class Strangers:
    """The environment with all examples installed, and a Llama that the shelf has a library for.

    Args:
        environment: the environment.
        wheels: the examples' wheels.
        llama: the model folder.
    """

    def __init__(self, environment: Any, wheels: list[Path], llama: Path) -> None:
        self.environment, self.wheels, self.llama = environment, wheels, llama
        self._answers: dict[tuple[str, ...], Any] = {}

    def chat(
        self, model: Path, device: str = "auto", template: str = "LM", prompt: str = PROMPT
    ) -> Any:
        """What ``ChatModule`` answers, greedily and in a process of its own."""
        arguments = (str(model), device, template, prompt, str(ANSWER))
        if arguments not in self._answers:
            shown = self.environment.run("python", "-c", CHAT, *arguments)
            self._answers[arguments] = json.loads(shown)
        return self._answers[arguments]


def is_on_the_shelf(library: str) -> bool:
    return Path(library).parent.parts[-2:] == ("mlc_llm_shelf", "libraries")


def convert(environment: Any, checkpoint: Path) -> Path:
    output = environment.folder / f"{checkpoint.name}-MLC"
    environment.run("python", "-c", CONVERT, checkpoint, output)
    return output


@pytest.fixture(scope="module")
def strangers(environment: Any, build_wheels: Any) -> Strangers:
    names = ("template", "device", "architecture", "variant", "observer", "catalog")
    simple = [EXAMPLES / name for name in names]
    wheels = build_wheels(ROOT, ROOT / "plugins" / "templates", *simple)
    environment.install(*wheels)
    llama = convert(environment, make_checkpoint(environment.folder / "llama"))
    # Built in a copy, because a library is compiled into the package's folder.
    project = environment.folder / "prebuilt-library"
    shutil.copytree(EXAMPLES / "prebuilt-library", project)
    environment.run("python", project / "build_library.py", llama)
    (shelf,) = build_wheels(project)
    environment.install(shelf)
    packages = {name.replace("-", "_") for _, _, name in EXAMPLE_PLUGINS}
    examples = [wheel for wheel in wheels if wheel.name.split("-")[0] in packages]
    return Strangers(environment, [*examples, shelf], llama)


def test_all_are_listed(strangers: Strangers) -> None:
    listed = strangers.environment.plugins()
    assert {(p["kind"], p["name"], p["distribution"]) for p in listed} >= EXAMPLE_PLUGINS
    assert {p["name"]: p["reason"] for p in listed if p["reason"]} == {}


def test_the_template(strangers: Strangers) -> None:
    """The model answers as it answers the text that the template makes, given as raw text."""
    rendered = (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nOnce upon a time\n\n### Response:\n"
    )
    answer = strangers.chat(strangers.llama, template="alpaca")
    assert answer["prompt_tokens"] == 1 + len(rendered)
    raw = strangers.chat(strangers.llama, prompt=rendered)
    assert answer["token_ids"] == raw["token_ids"]


def test_the_template_is_as_short_as_promised() -> None:
    files = [EXAMPLES / "template" / name for name in ("pyproject.toml", "mlc_llm_alpaca.py")]
    assert sum(len(file.read_text().splitlines()) for file in files) < 40


def test_the_prebuilt_library(strangers: Strangers) -> None:
    """It is used where it fits; nothing is compiled."""
    answer = strangers.chat(strangers.llama)
    assert is_on_the_shelf(answer["library"])
    assert not any("Compiling" in line for line in answer["logged"])
    # Both are what was installed, and no file of this clone.
    for path in (answer["library"], answer["core"]):
        assert strangers.environment.folder / "venv" in Path(path).parents


def test_an_empty_shelf_makes_no_wheel(tmp_path: Path, build_wheels: Any) -> None:
    project = shutil.copytree(EXAMPLES / "prebuilt-library", tmp_path / "empty")
    with pytest.raises(AssertionError, match=r"is empty: run `python build_library\.py MODEL`"):
        build_wheels(project)


def test_the_device(strangers: Strangers) -> None:
    """It is used by name, with a library of its own: the shelf's, for another device, is not."""
    answer = strangers.chat(strangers.llama, "cpu-portable")
    assert answer["device"] == "cpu-portable:0"
    assert not is_on_the_shelf(answer["library"])
    assert any("shelf" in line and "it has no" in line for line in answer["logged"])
    record = read_record(Path(answer["library"]))
    assert record.device == "cpu-portable"
    assert record.target["mcpu"] in ("x86-64-v3", "generic")
    assert not {"avx512f", "avx512vnni", "dotprod"}.intersection(record.cpu_features)
    # What auto takes is the CPU as it is, and that computes the same.
    ours = strangers.chat(strangers.llama)
    assert ours["device"] == "cpu:0"
    assert answer["token_ids"] == ours["token_ids"]
    assert answer["logprobs"] == pytest.approx(ours["logprobs"], abs=1e-4)


Reference = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def reference(transformers: Any, torch: Any) -> Reference:
    """The log-probabilities (tokens - 1, vocab) of what follows each token, by transformers."""

    def logprobs(checkpoint: Path, ids: list[int]) -> np.ndarray:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            transformers.utils.logging.disable_progress_bar()
            torch.set_num_threads(1)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                checkpoint, dtype=torch.float32, attn_implementation="eager"
            )
            logits = model(torch.tensor([ids])).logits[0, :-1]
            return torch.log_softmax(logits, dim=-1).numpy()

    return logprobs


def check_greedy(answer: Any, checkpoint: Path, reference: Reference) -> None:
    """Check an answer's tokens and their log-probabilities."""
    chosen = answer["token_ids"]
    assert (answer["prompt_tokens"], len(chosen)) == (len(PROMPT_IDS), ANSWER)
    expected = reference(checkpoint, [*PROMPT_IDS, *chosen])[-ANSWER:]
    assert expected.argmax(axis=-1).tolist() == chosen
    picked = expected[np.arange(ANSWER), chosen]
    np.testing.assert_allclose(answer["logprobs"], picked, atol=1e-4)


def test_the_architecture(
    strangers: Strangers,
    tmp_path: Path,
    reference: Reference,
    save_random_opt: Callable[..., Path],
) -> None:
    """OPT, in ``test_opt.py`` in every quantisation; here installed from its wheel."""
    checkpoint = save_random_opt(tmp_path / "opt")
    folder = convert(strangers.environment, checkpoint)
    check_greedy(strangers.chat(folder), checkpoint, reference)


def test_a_window_that_is_longer_than_the_positions(
    strangers: Strangers, tmp_path: Path, save_random_opt: Callable[..., Path]
) -> None:
    """It is refused by gen_config, before anything is compiled, and when a chat is reset."""
    environment = strangers.environment
    checkpoint = save_random_opt(tmp_path / "opt-short", max_position_embeddings=100)
    folder = convert(environment, checkpoint)
    libraries = set((environment.folder / "cache").rglob("*.so"))
    said = environment.run("python", "-c", TOO_LONG, checkpoint, folder)
    assert said.count("the context window must be at most n_positions (100)") == 3
    # That of the chat with a window that fits.
    assert len(set((environment.folder / "cache").rglob("*.so")) - libraries) == 1


def test_the_observer(strangers: Strangers) -> None:
    """It writes down each answer, and is as short as promised."""
    diary = strangers.environment.folder / "diary.jsonl"
    answer = strangers.chat(strangers.llama, prompt="Dear diary")
    entries = [json.loads(line) for line in diary.read_text().splitlines()]
    assert {"prompt": "Dear diary", "answer": answer["text"]} in entries
    text = (EXAMPLES / "observer" / "mlc_llm_diary.py").read_text()
    code = text.partition("@hookimpl")[2]
    assert len(code.splitlines()) <= 10


def test_the_architecture_is_as_short_as_promised() -> None:
    text = (EXAMPLES / "architecture" / "mlc_llm_opt.py").read_text()
    assert len(text.splitlines()) <= 150


def test_the_variant(
    strangers: Strangers,
    tmp_path: Path,
    reference: Reference,
    save_random_arcee: Callable[..., Path],
) -> None:
    checkpoint = save_random_arcee(tmp_path / "arcee")
    check_greedy(strangers.chat(convert(strangers.environment, checkpoint)), checkpoint, reference)


def test_uninstalled_they_vanish(strangers: Strangers) -> None:
    environment = strangers.environment
    environment.pip("uninstall", "--yes", *sorted(name for _, _, name in EXAMPLE_PLUGINS))
    try:
        listed = environment.plugins()
        assert {p["distribution"] for p in listed} == {"mlc-llm", "mlc-llm-templates"}
    finally:
        environment.install(*strangers.wheels)
