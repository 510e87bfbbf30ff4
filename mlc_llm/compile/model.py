"""Compiling the library of a model folder, as a user asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from mlc_llm.compile.child import LIBRARY_SUFFIX, compile_in_child
from mlc_llm.config import check_options, parse_options
from mlc_llm.errors import CompileError
from mlc_llm.home import expand_home
from mlc_llm.plugin import Adapter, Device, ModelSpec
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
    wanted = library_target(device, arch)
    spec = library_spec(folder, wanted, opt=opt, deterministic=deterministic)
    path = folder.path / f"{folder.path.name}-{wanted.device.name}{LIBRARY_SUFFIX}"
    if output is not None:
        path = library_file(output)
    try:
        with scratch_folder(path.parent.absolute()) as work:
            compile_in_child(spec, wanted.device.name, wanted.target, work).replace(path)
    except CompileError as error:
        full = " Free some space, or choose another place." if error.code == "disk-full" else ""
        raise CompileError(
            f"Compiling the library {path} failed: {error}.{full}", code=error.code
        ) from error
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def library_file(output: str | Path) -> Path:
    """The file that a user names for a library; its folder is made if need be.

    Raises:
        CompileError: it cannot be.
    """
    path = expand_home(output, CompileError, "The output")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def _unwritable(path: Path, error: OSError) -> CompileError:
    return CompileError(
        f"The library cannot be written to {path}: {error.strerror or error}. Free some space, "
        "or choose another place.",
        code="file-unwritable",
    )


class LibraryTarget(NamedTuple):
    """What a library is compiled for.

    Args:
        name: of the device, as a user writes it.
        device: the device.
        adapter: what is here of it; None where the library is for others.
        target: TVM's target.
    """

    name: str
    device: Device
    adapter: Adapter | None
    target: dict[str, Any]


def library_target(device: str, arch: str = "") -> LibraryTarget:
    """The device and target of a library: of what is here, or else of what ``arch`` names.

    Raises:
        DeviceError: there is no such device, or it knows nothing of ``arch``.
    """
    if arch:
        named = device_named(device)
        return LibraryTarget(device, named, None, named.target_for(arch.split(",")))
    chosen = choose_device(device)
    target = chosen.device.target(chosen.index)
    return LibraryTarget(str(chosen), chosen.device, chosen.adapter, target)


def library_spec(
    folder: ModelFolder, wanted: LibraryTarget, *, opt: str = "", deterministic: bool = False
) -> ModelSpec:
    """What the library of a model folder is compiled for.

    Args:
        folder: the model folder, of which only the configuration and the tensors' number count.
        wanted: the device.
        opt: compilation options.
        deterministic: compute prompts the same way as answers.

    Raises:
        MLCError: the folder, the device or the options do not fit together.
    """
    plan = folder_plan(folder.config)
    if wanted.adapter is None:
        require_schemes(plan, wanted.device)
    else:
        require_plan(plan, wanted.device, wanted.adapter)
    architecture = default_registry().architecture(folder.config.model_type)
    config_of(folder.config, architecture, len(folder.manifest.tensors))
    spec = ModelSpec.of(folder.config, architecture, plan, opt, deterministic)
    check_options(parse_options(spec.opt), wanted.device.options)
    return spec
