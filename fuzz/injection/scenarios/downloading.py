"""Fetching a model from a hub on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from fuzz.injection.loopback_hub import REPOSITORY, LoopbackHub, serve
from fuzz.injection.program import Unsound
from fuzz.injection.scenario import Scenario
from mlc_llm.testing.model_folder import make_model_folder
from mlc_llm.weights.manifest import MANIFEST_FILE

_PROGRAM = """
import sys
from mlc_llm.cli.app import show_error
from mlc_llm.errors import MLCError
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.locate import resolve_model
try:
    print(ModelFolder.open(resolve_model(sys.argv[1])).path)
except MLCError as error:
    show_error(error)
    sys.exit(1)
except KeyboardInterrupt:
    sys.exit(130)
"""


class Downloading(Scenario):
    """A model that counts as fetched is whole."""

    name = "download"
    rounds = 10
    falls_silent = True

    @cached_property
    def _hub(self) -> LoopbackHub:
        sizes: dict[str, Any] = {
            "num_hidden_layers": 4,
            "hidden_size": 256,
            "intermediate_size": 512,
        }
        folder = make_model_folder(self.inputs / "published", "q0f16", **sizes)
        return serve(folder)

    def command(self, work: Path) -> list[str]:
        return [sys.executable, "-c", _PROGRAM, f"HF://{REPOSITORY}"]

    def variables(self, work: Path) -> Mapping[str, str]:
        return {
            **super().variables(work),
            "HF_HOME": str(work / "huggingface"),
            "HF_HUB_OFFLINE": "0",
            "HF_ENDPOINT": self._hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DOWNLOAD_TIMEOUT": "2",  # It is waited so long, and tried six times.
        }

    @contextmanager
    def silence(self, after: int) -> Iterator[None]:
        self._hub.silent_after = after
        try:
            yield
        finally:
            self._hub.silent_after = None

    def check(self, work: Path) -> None:
        """Files under their own names are whole; what is not has another name."""
        for snapshot in work.glob("huggingface/hub/*/snapshots/*"):
            for path in snapshot.iterdir():
                if path.read_bytes() != self._hub.files[path.name]:
                    raise Unsound(f"half of {path.name} is there under its name")

    def check_done(self, work: Path) -> None:
        self.check(work)
        [snapshot] = work.glob("huggingface/hub/*/snapshots/*")
        if not (snapshot / MANIFEST_FILE).exists():
            raise Unsound("the model is not there")
