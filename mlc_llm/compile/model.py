"""Compiling the library of a model folder, as a user asks for it."""

from __future__ import annotations

import sys
from pathlib import Path

from mlc_llm.compile.build import compile_library
from mlc_llm.plugin import ModelSpec
from mlc_llm.plugin.model_library import config_of
from mlc_llm.quantization import folder_plan
from mlc_llm.quantization.requirement import require_plan
from mlc_llm.registry.choice import choose_device
from mlc_llm.registry.registry import default_registry
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.locate import resolve_model

SUFFIXES = {"darwin": ".dylib", "win32": ".dll"}


def compile_model(
    model: str | Path,
    device: str = "auto",
    output: str | Path | None = None,
    *,
    opt: str = "",
    deterministic: bool = False,
) -> Path:
    """Compile the model library of a model folder.

    Args:
        model: a folder in MLC's format, or ``HF://org/name``.
        device: ``auto``, a device's name, or ``name:index``.
        output: the library's file; by default ``{folder's name}-{device}.so`` in the folder.
        opt: compilation options, such as ``"activations=a8"``.
        deterministic: compute prompts the same way as answers; see ``ChatConfig``.

    Returns:
        The library's path.

    Raises:
        MLCError: the folder, the device or the options are wrong, or compiling failed.
    """
    folder = ModelFolder.open(resolve_model(str(model)))
    registry = default_registry()
    chosen = choose_device(device)
    plan = folder_plan(folder.config)
    require_plan(plan, chosen.device, chosen.adapter)
    architecture = registry.architecture(folder.config.model_type)
    suffix = SUFFIXES.get(sys.platform, ".so")
    default = folder.path / f"{folder.path.name}-{chosen.device.name}{suffix}"
    path = Path(output) if output is not None else default
    config_of(folder.config, architecture, len(folder.manifest.tensors))
    spec = ModelSpec.of(folder.config, architecture, plan, opt, deterministic)
    compile_library(spec, architecture, chosen.device, chosen.device.target(chosen.index), path)
    return path
