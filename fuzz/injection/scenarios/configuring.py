"""``gen_config``: it copies the tokenizer's files, and writes the configuration last."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from fuzz.injection.program import Unsound, mlc_llm
from fuzz.injection.scenario import Scenario
from mlc_llm.config import CHAT_CONFIG_FILE, ModelFile
from mlc_llm.errors import MLCError
from mlc_llm.testing.model_folder import make_checkpoint
from mlc_llm.tokenizer import load_tokenizer


class Configuring(Scenario):
    """A configuration is there with its tokenizer, or is not there."""

    name = "gen_config"
    rounds = 6

    @cached_property
    def _source(self) -> Path:
        return make_checkpoint(self.inputs / "source")

    def command(self, work: Path) -> list[str]:
        options = ["--quantization", "q4f16_1", "--conv-template", "llama-2"]
        return mlc_llm("gen_config", self._source, *options, "-o", work / "model")

    def check(self, work: Path) -> None:
        folder = work / "model"
        if not (folder / CHAT_CONFIG_FILE).exists():
            return
        try:
            ModelFile.load(folder / CHAT_CONFIG_FILE)
            load_tokenizer(folder)
        except MLCError as error:
            raise Unsound(
                f"the configuration is there, and not all of its files: {error}"
            ) from error

    def check_done(self, work: Path) -> None:
        self.check(work)
        names = sorted(path.name for path in (work / "model").iterdir())
        if names != [CHAT_CONFIG_FILE, "tokenizer.json"]:
            raise Unsound(f"the folder has {names}")
