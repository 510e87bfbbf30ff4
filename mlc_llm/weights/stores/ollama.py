"""What ollama has on the disk: manifests by name, and blobs by digest, one of them the GGUF file.

The layout is that of ollama's model folder: ``manifests/HOST/NAMESPACE/MODEL/TAG`` is a JSON object
whose layer of the type ``application/vnd.ollama.image.model`` names the file in ``blobs/``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from mlc_llm.weights.gguf_file import is_gguf
from mlc_llm.weights.stores.kept import KeptModel, Store

VARIABLE = "OLLAMA_MODELS"
"""Ollama's environment variable for its model folder."""

_SYSTEM = Path("/usr/share/ollama/.ollama/models")
"""Where ollama keeps models when it runs as a service of Linux."""
_MODEL = "application/vnd.ollama.image.model"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_MOST_BYTES = 1 << 20
"""Bytes that a manifest may have; real ones have about one thousand."""
_USUAL = ("registry.ollama.ai", "library")
"""Host and namespace that ollama leaves out of a model's name."""


def ollama_models() -> Iterator[KeptModel]:
    """The models that ollama has, but for those whose file is missing or of another format."""
    for folder in _folders():
        root = folder / "manifests"
        for manifest in sorted(root.glob("*/*/*/*")):
            path = _model_file(manifest, folder / "blobs")
            if path is not None:
                name = f"{Store.OLLAMA}:{_name(manifest.relative_to(root).parts)}"
                yield KeptModel(name, Store.OLLAMA, path, path.stat().st_size)


def _folders() -> list[Path]:
    if named := os.environ.get(VARIABLE, "").strip():
        return [Path(named)]
    home = os.path.expanduser("~")  # noqa: PTH111 (Path's own raises where there is no home)
    return [Path(home) / ".ollama" / "models", _SYSTEM]


def _name(parts: tuple[str, ...]) -> str:
    """``llama3.2:1b``; ``user/model:tag`` or ``host/user/model:tag`` for those of others."""
    host, namespace, model, tag = parts
    if (host, namespace) == _USUAL:
        return f"{model}:{tag}"
    return (
        f"{namespace}/{model}:{tag}" if host == _USUAL[0] else f"{host}/{namespace}/{model}:{tag}"
    )


def _model_file(manifest: Path, blobs: Path) -> Path | None:
    """The GGUF file that a manifest names; None where there is none."""
    try:
        if not manifest.is_file() or manifest.stat().st_size > _MOST_BYTES:
            return None
        layers = json.loads(manifest.read_bytes())["layers"]
        digests = [layer["digest"] for layer in layers if layer["mediaType"] == _MODEL]
        found = _DIGEST.fullmatch(digests[0])
        path = blobs / f"sha256-{found[1]}" if found else None
        return path if path is not None and path.is_file() and is_gguf(path) else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
