"""Compiling the library of a model folder, as a user asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlc_llm.compile.child import LIBRARY_SUFFIX, compile_in_child
from mlc_llm.config import check_options, parse_options
from mlc_llm.errors import CompileError
from mlc_llm.home import expand_home
from mlc_llm.plugin import Device, ModelSpec, Plan
from mlc_llm.plugin.model_library import config_of
from mlc_llm.quantization import folder_plan
from mlc_llm.quantization.requirement import require_plan, require_schemes
from mlc_llm.registry.choice import choose_device, device_named
from mlc_llm.registry.registry import default_registry
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.locate import resolve_model
from mlc_llm.weights.scratch import scratch_folder


def compile_model(
    model: str | Path,
    device: str = "auto",
    output: str | Path | None = None,
    *,
    opt: str = "",
    deterministic: bool = False,
    arch: str = "",
) -> Path:
    """Compile the model library of a model folder, in a child process.

    Args:
        model: a folder in MLC's format, or ``HF://org/name``.
        device: ``auto``, a device's name, or ``name:index``; with ``arch`` its name.
        output: the library's file; by default ``{folder's name}-{device}.so`` in the folder.
        opt: compilation options, such as ``"activations=a8"``.
        deterministic: compute prompts the same way as answers; see ``ChatConfig``.
        arch: what to compile for where not for what is here, in the device's own words, such as
            ``"80,90"``. The device need not be available then.

    Returns:
        The library's path.

    Raises:
        MLCError: the folder, the device or the options are wrong, or compiling failed; what was at
            ``output`` stays then.
    """
    folder = ModelFolder.open(resolve_model(str(model)))
    registry = default_registry()
    plan = folder_plan(folder.config)
    chosen, target = _target(device, arch, plan)
    architecture = registry.architecture(folder.config.model_type)
    config_of(folder.config, architecture, len(folder.manifest.tensors))
    spec = ModelSpec.of(folder.config, architecture, plan, opt, deterministic)
    check_options(parse_options(spec.opt), chosen.options)
    path = folder.path / f"{folder.path.name}-{chosen.name}{LIBRARY_SUFFIX}"
    if output is not None:
        path = expand_home(output, CompileError, "The output")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(path.parent.absolute()) as work:
            compile_in_child(spec, chosen.name, target, work).replace(path)
    except CompileError as error:
        full = " Free some space, or choose another place." if error.code == "disk-full" else ""
        raise CompileError(
            f"Compiling the library {path} failed: {error}.{full}", code=error.code
        ) from error
    except OSError as error:
        raise CompileError(
            f"The library cannot be written to {path}: {error.strerror or error}. Free some space, "
            "or choose another place.",
            code="file-unwritable",
        ) from error
    return path


def _target(device: str, arch: str, plan: Plan) -> tuple[Device, dict[str, Any]]:
    """The device, and the TVM target of what is here, or else of what ``arch`` names."""
    if not arch:
        chosen = choose_device(device)
        require_plan(plan, chosen.device, chosen.adapter)
        return chosen.device, chosen.device.target(chosen.index)
    named = device_named(device)
    require_schemes(plan, named)
    return named, named.target_for(arch.split(","))
