"""Loading a chat: from what the user named to a model that runs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from mlc_llm.chat.settings import ChatSettings
from mlc_llm.config import CHAT_CONFIG_FILE, ChatConfig
from mlc_llm.library.record import read_record
from mlc_llm.library.resolve import resolve_library
from mlc_llm.plugin import LibraryRequest, ModelSpec, Plan
from mlc_llm.quantization import folder_plan
from mlc_llm.quantization.requirement import require_plan
from mlc_llm.registry.choice import AUTO, Choice, choose_device
from mlc_llm.registry.registry import Registry
from mlc_llm.runtime.engine import Engine
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.runtime.tensor_limit import require_parameters
from mlc_llm.tokenizer import Tokenizer, check_vocab, load_tokenizer
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.source import resolve_model

logger = logging.getLogger("mlc_llm")


@dataclass(frozen=True)
class LoadedChat:
    """A model that runs, and everything that was found on the way.

    Args:
        folder: the model folder.
        library: the compiled library.
        device: the device that was chosen.
        settings: the settings in force.
        tokenizer: the model's tokenizer.
        engine: the thread that runs the model.
        model: the model; only the engine may touch it.
    """

    folder: ModelFolder
    library: Path
    device: Choice
    settings: ChatSettings
    tokenizer: Tokenizer
    engine: Engine
    model: LoadedModel


def load_chat(
    model: str,
    device: str,
    chat_config: ChatConfig | None,
    model_lib: str | None,
    registry: Registry,
) -> LoadedChat:
    """Find and load everything that a chat needs.

    Args:
        model: a model folder, or ``HF://org/name``.
        device: ``auto``, a device's name, or ``name:index``.
        chat_config: the user's overlay.
        model_lib: a compiled library; None for one to be found or compiled.
        registry: where plugins are looked up.

    Raises:
        MLCError: something is missing, malformed, or does not fit; see ``mlc_llm.errors``.
    """
    folder = ModelFolder.open(resolve_model(model))
    logger.info("Using model folder: %s", folder.path.absolute())
    logger.info("Using mlc chat config: %s", folder.path.absolute() / CHAT_CONFIG_FILE)
    settings = ChatSettings.of(folder.config, chat_config, registry)
    tokenizer = load_tokenizer(folder.path)
    check_vocab(tokenizer, folder.config.vocab_size)
    named = model_lib or settings.overlay.model_lib
    library_file = Path(named).expanduser() if named else None
    chosen = _choose(device, library_file, registry)
    # Before minutes are spent on compiling.
    plan = folder_plan(settings.file)
    require_plan(plan, chosen)
    require_parameters(folder, chosen.adapter)
    library = _resolve(folder, settings, plan, chosen, library_file, registry)
    logger.info("Using library model: %s", library)
    engine = Engine(f"mlc_llm engine of {folder.path.name}")
    try:
        loaded = engine.call(
            lambda stop: LoadedModel.load(
                library,
                folder,
                chosen.device.open(chosen.index),
                adapter=chosen.adapter,
                config=settings.file,
                stop=stop,
            )
        )
    except BaseException:
        engine.close()
        raise
    finally:
        folder.close()
    return LoadedChat(folder, library, chosen, settings, tokenizer, engine, loaded)


def _choose(device: str, library: Path | None, registry: Registry) -> Choice:
    """The device; with a named library ``auto`` means the one that it was built for."""
    if device == AUTO and library is not None:
        device = read_record(library).device
    return choose_device(device, registry)


def _resolve(
    folder: ModelFolder,
    settings: ChatSettings,
    plan: Plan,
    chosen: Choice,
    named: Path | None,
    registry: Registry,
) -> Path:
    architecture = registry.architecture(settings.file.model_type)
    overlay = settings.overlay
    request = LibraryRequest(
        spec=ModelSpec.of(
            settings.file,
            architecture,
            plan,
            overlay.opt or "",
            bool(overlay.deterministic),
        ),
        device=chosen.device.name,
        target=chosen.device.target(chosen.index),
        model_path=folder.path,
        named=named,
    )
    return resolve_library(request, registry).path
