"""What LM Studio has on the disk: GGUF files in folders ``PUBLISHER/REPOSITORY``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mlc_llm.weights.gguf_choice import gguf_models
from mlc_llm.weights.stores.kept import KeptModel, Store

_FOLDERS = ((".lmstudio", "models"), (".cache", "lm-studio", "models"))
"""Its folders under the home folder, the newer one first."""


def lm_studio_models() -> Iterator[KeptModel]:
    """The models that LM Studio has; of a split one, the path is its first part's."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 (Path's own raises where there is no home)
    for root in (home.joinpath(*parts) for parts in _FOLDERS):
        files = [
            (path.relative_to(root).as_posix(), path.stat().st_size)
            for path in root.glob("*/*/*.gguf")
            if path.is_file()
        ]
        for model in gguf_models(files):
            name = f"{Store.LM_STUDIO}:{model.parts[0]}"
            path = root / model.parts[0]
            yield KeptModel(name, Store.LM_STUDIO, path, model.nbytes, model.complete)
