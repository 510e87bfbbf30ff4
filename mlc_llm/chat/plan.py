"""What a chat will be made of, found and checked before anything is compiled or loaded."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mlc_llm.chat.settings import ChatSettings
from mlc_llm.config import CHAT_CONFIG_FILE, ChatConfig, check_options, parse_options
from mlc_llm.conversation import Conversation
from mlc_llm.convert.cached import converted, is_checkpoint
from mlc_llm.errors import ConfigError, LibraryError
from mlc_llm.home import expand_home
from mlc_llm.library.record import read_record
from mlc_llm.library.resolve import resolve_library
from mlc_llm.model.stored import stored_parameters
from mlc_llm.plugin import ConversationTemplate, LibraryRequest, ModelSpec
from mlc_llm.plugin.model_library import config_of
from mlc_llm.quantization import folder_plan
from mlc_llm.quantization.requirement import require_plan
from mlc_llm.registry.choice import AUTO, Choice, choose_device
from mlc_llm.registry.registry import Registry
from mlc_llm.runtime import memory
from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.runtime.failures import require_room
from mlc_llm.runtime.memory import MemoryEstimate
from mlc_llm.runtime.metadata import KVCacheGeometry
from mlc_llm.runtime.parameters import check_parameters
from mlc_llm.shown import shown
from mlc_llm.tokenizer import Tokenizer, beyond_vocabulary, load_tokenizer
from mlc_llm.tokenizer.template_ids import warn_of_misfits
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.locate import resolve_model

logger = logging.getLogger("mlc_llm")


Sizes = Callable[[ContextWindow, MemoryEstimate, int | None], ContextWindow]
"""Gives the sizes of a KV cache for many answers: from those for one conversation, what these would
take, and the bytes that there are (None where that is not known). It may raise an MLCError."""


@dataclass(frozen=True)
class ModelPlan:
    """What the settings make of a model.

    Args:
        spec: what its library is compiled for.
        window: the sizes of its KV cache.
        memory: what it will take.
    """

    spec: ModelSpec
    window: ContextWindow
    memory: MemoryEstimate

    @classmethod
    def of(
        cls,
        settings: ChatSettings,
        folder: ModelFolder,
        device: Choice,
        registry: Registry,
        sizes: Sizes | None = None,
    ) -> ModelPlan:
        """Check what the settings ask of the model and of the device.

        Args:
            settings: the settings.
            folder: the model's folder.
            device: the device.
            registry: where plugins are looked up.
            sizes: changes the sizes of the KV cache.

        Raises:
            ModelFolderError: the architecture cannot read the folder's ``model_config``, or the
                folder's weights are not those of such a model.
            QuantizationError: the folder's quantisation is unknown.
            ConfigError: a window or a compilation option is wrong.
            DeviceError: the device does not compute with such weights, or is too small.
        """
        file, overlay = settings.file, settings.overlay
        architecture = registry.architecture(file.model_type)
        model = config_of(file, architecture, len(folder.manifest.tensors))
        window = ContextWindow.choose(file, model, device.device.prefill_rows)
        quantization = folder_plan(file)
        require_plan(quantization, device.device, device.adapter)
        spec = ModelSpec.of(
            file, architecture, quantization, overlay.opt or "", bool(overlay.deterministic)
        )
        check_options(parse_options(spec.opt), device.device.options)
        stored = stored_parameters(architecture.module(model), quantization)
        check_parameters(stored, folder, f"{architecture.name} in {quantization.name}")
        attention = architecture.attention(model)
        cache = KVCacheGeometry.of(attention, quantization.dtype)
        memory.require_parameters(folder, device.adapter)

        def needed(window: ContextWindow) -> MemoryEstimate:
            workspace = memory.workspace_bytes(model, attention, window.chunk)
            return memory.estimate(cache, window, memory.weight_bytes(folder), workspace)

        if sizes is not None:
            window = sizes(window, needed(window), memory.available_on(device.adapter))
        memory.require_kv_cache(cache, window, device.adapter)
        return cls(spec, window, needed(window))


@dataclass(frozen=True)
class ChatPlan:
    """What a chat will be made of.

    Args:
        folder: the model folder.
        settings: the settings in force.
        tokenizer: the model's tokenizer.
        device: the device that was chosen.
        model: what the settings make of the model.
        named: the library file that the user named, if any.
    """

    folder: ModelFolder
    settings: ChatSettings
    tokenizer: Tokenizer
    device: Choice
    model: ModelPlan
    named: Path | None = None

    @property
    def request(self) -> LibraryRequest:
        """The library that is needed."""
        device, index = self.device.device, self.device.index
        target = device.target(index)
        return LibraryRequest(self.model.spec, device.name, target, self.folder.path, self.named)

    def changed(self, settings: ChatSettings, registry: Registry) -> ChatPlan:
        """The plan with other settings, for the library that is loaded.

        Raises:
            ConfigError: a setting is wrong, or needs another library.
            MLCError: the template, or the device, does not serve; see :meth:`ModelPlan.of`.
        """
        model = self._replanned(settings, registry)
        if model.window != self.model.window:
            model.window.warn_if_untrained()
        return replace(self, settings=settings, model=model)

    def sharing(self, settings: ChatSettings, registry: Registry) -> ChatPlan:
        """The plan of another chat with the model that is loaded, whose sizes stay.

        Raises:
            ConfigError: a setting is wrong, or needs another library or other sizes.
            MLCError: the template does not serve; see :meth:`ModelPlan.of`.
        """
        window = self.model.window
        sizes = {"context_window_size": window.size, "prefill_chunk_size": window.chunk}
        for name, size in sizes.items():
            if getattr(settings.overlay, name) not in (None, -1, size):
                raise ConfigError(
                    f"{name} ({getattr(settings.overlay, name)}) is settled by the engine that is "
                    f"shared (here: {size}). Leave it out, or set it in the engine.",
                    code="setting-settled",
                )
        self._replanned(settings, registry)
        return replace(self, settings=settings)

    def _replanned(self, settings: ChatSettings, registry: Registry) -> ModelPlan:
        """What other settings make of the model, for the library that is loaded."""
        Conversation(settings.template, self.tokenizer)
        model = ModelPlan.of(settings, self.folder, self.device, registry)
        if differences := model.spec.differences(self.model.spec):
            raise ConfigError(
                "These settings need another library than the one that is loaded "
                f"({'; '.join(differences)}). Make a new ChatModule with them.",
                code="setting-settled",
            )
        return model

    @classmethod
    def of(
        cls,
        folder: ModelFolder,
        device: Choice,
        chat_config: ChatConfig | None,
        named: Path | None,
        registry: Registry,
        sizes: Sizes | None = None,
    ) -> ChatPlan:
        """Check a model folder, a device and settings together. Of the weights nothing is read.

        Args:
            folder: the model folder.
            device: the device.
            chat_config: the user's overlay.
            named: the library file that the user named, if any.
            registry: where plugins are looked up.
            sizes: changes the sizes of the KV cache.

        Raises:
            MLCError: something is malformed, or does not fit.
        """
        settings = ChatSettings.of(folder.config, chat_config, registry, folder.path)
        tokenizer = load_tokenizer(folder.path)
        Conversation(settings.template, tokenizer)
        model = ModelPlan.of(settings, folder, device, registry, sizes)
        memory.require(model.memory, memory.available_on(device.adapter), model.window)
        return cls(folder, settings, tokenizer, device, model, named)


Check = Callable[[ChatPlan], object]
"""Raises an MLCError where a plan does not serve."""


def plan_chat(
    model: str,
    device: str,
    chat_config: ChatConfig | None,
    model_lib: str | None,
    registry: Registry,
    *,
    progress: bool = False,
    check: Check | None = None,
    sizes: Sizes | None = None,
) -> ChatPlan:
    """Find and check everything that a chat needs but its library.

    Of a checkpoint that must be converted it is all checked before that begins, as far as it can
    be known from its configuration and its tokenizer.

    Args:
        model: what :func:`~mlc_llm.weights.locate.resolve_model` takes. A checkpoint is converted.
        device: ``auto``, a device's name, or ``name:index``.
        chat_config: the user's overlay.
        model_lib: a compiled library; None for one to be found or compiled.
        registry: where plugins are looked up.
        progress: whether to show the progress of a download and of a conversion on stderr, when
            that is a terminal.
        check: more that the plan is checked for, before anything is converted.
        sizes: changes the sizes of the KV cache.

    Raises:
        MLCError: something is missing, malformed, or does not fit; see ``mlc_llm.errors``.
    """
    _require_kinds(model, device, model_lib)
    library = model_lib or (chat_config and chat_config.model_lib)
    named = expand_home(library, LibraryError, "The model library") if library else None

    def planned(folder: ModelFolder, chosen: Choice) -> ChatPlan:
        plan = ChatPlan.of(folder, chosen, chat_config, named, registry, sizes)
        if check is not None:
            check(plan)
        return plan

    path, chosen = resolve_model(model, progress=progress, registry=registry), None
    if is_checkpoint(path, registry):
        chosen = here = _choose(device, named, registry)
        path = converted(
            path,
            here.device,
            progress=progress,
            registry=registry,
            check=lambda folder: _require_loadable(planned(folder, here), registry),
        )
    folder = ModelFolder.open(path)
    logger.info("Using model folder: %s", folder.path.absolute())
    logger.info("Using mlc chat config: %s", folder.path.absolute() / CHAT_CONFIG_FILE)
    plan = planned(folder, chosen or _choose(device, named, registry))
    if beyond := beyond_vocabulary(plan.tokenizer, folder.config.vocab_size):
        logger.warning("%s", beyond)
    if isinstance(plan.settings.template, ConversationTemplate):
        warn_of_misfits(plan.settings.template, plan.tokenizer)
    plan.model.window.warn_if_untrained()
    return plan


def _require_loadable(plan: ChatPlan, registry: Registry) -> None:
    """Check what loading would check first: the address space, and a library that was named."""
    require_room(str(plan.device), plan.model.memory)
    if plan.named is not None:
        resolve_library(plan.request, registry)


def _require_kinds(model: object, device: object, model_lib: object) -> None:
    paths = (str, os.PathLike)
    wanted = (("model", model, paths), ("device", device, str), ("model_lib", model_lib, paths))
    for name, value, kinds in wanted:
        if not isinstance(value, kinds) and not (name == "model_lib" and value is None):
            raise ConfigError(f"{name} must be text, not {shown(value)}.", code="argument-mistyped")


def _choose(device: str, library: Path | None, registry: Registry) -> Choice:
    """The device; with a named library ``auto`` means the one that it was built for."""
    if device == AUTO and library is not None:
        device = read_record(library).device
    return choose_device(device, registry)
