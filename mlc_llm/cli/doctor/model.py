"""One model: its folder, its tokenizer, its template, and whether it has a library."""

from __future__ import annotations

from collections.abc import Iterator

from mlc_llm.chat.settings import ChatSettings
from mlc_llm.cli.doctor.finding import Finding, Status
from mlc_llm.cli.doctor.python import threads_finding
from mlc_llm.conversation import Conversation, Message
from mlc_llm.convert.cached import conversion_of, is_checkpoint
from mlc_llm.errors import HubError, MLCError
from mlc_llm.library.jit import JITProvider
from mlc_llm.plugin import LibraryRequest, ModelSpec
from mlc_llm.quantization import folder_plan
from mlc_llm.registry.choice import choose_device
from mlc_llm.registry.registry import Registry
from mlc_llm.runtime.threads import thread_count
from mlc_llm.tokenizer import Tokenizer, beyond_vocabulary, load_tokenizer
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.locate import resolve_model

_TO_CONVERT = "a checkpoint, which the first chat converts"
TOKENIZER_FILES = "Copy the tokenizer files of the original model into the folder."
AGAIN = "Fetch or convert the model again, into an empty folder."


def check_model(model: str, registry: Registry, online: bool) -> Iterator[Finding]:
    """Check a model's folder, whole.

    Args:
        model: what ``mlc_llm chat`` takes.
        registry: where plugins are looked up.
        online: whether a repository that is not in the hub's cache may be fetched.
    """
    try:
        path = resolve_model(model, local=not online)
        if is_checkpoint(path, registry):
            converted = conversion_of(path, choose_device(registry=registry).device)
            if converted is None:
                yield Finding("model", "folder", Status.ABSENT, f"{path}: {_TO_CONVERT}")
                return
            path = converted
        folder = ModelFolder.open(path)
    except MLCError as error:
        remedy = "Fetch it: mlc_llm pull " + model if isinstance(error, HubError) else AGAIN
        yield Finding("model", "folder", Status.BROKEN, str(error), remedy)
        return
    with folder:
        size = f"{folder.total_bytes / 2**30:.2f} GiB in {len(folder.manifest.tensors)} tensors"
        yield Finding("model", "folder", Status.OK, f"{path}: {size}")
        yield _checksums(folder)
        tokenizer, finding = _tokenizer(folder)
        yield finding
        yield _template(folder, tokenizer, registry)
        yield _library(folder, registry)
        if (threads := folder.config.num_threads) is not None:
            yield threads_finding("model", "threads", thread_count(threads))


def _checksums(folder: ModelFolder) -> Finding:
    try:
        folder.verify()
    except MLCError as error:
        return Finding("model", "checksums", Status.BROKEN, str(error), AGAIN)
    shards = len(folder.manifest.shards)
    return Finding("model", "checksums", Status.OK, f"all {shards} files of weights are intact")


def _tokenizer(folder: ModelFolder) -> tuple[Tokenizer | None, Finding]:
    try:
        tokenizer = load_tokenizer(folder.path)
    except MLCError as error:
        return None, Finding("model", "tokenizer", Status.BROKEN, str(error), TOKENIZER_FILES)
    if beyond := beyond_vocabulary(tokenizer, folder.config.vocab_size):
        remedy = f"Where answers make no sense: {TOKENIZER_FILES}"
        return tokenizer, Finding("model", "tokenizer", Status.WARNING, beyond, remedy)
    detail = f"{tokenizer.vocab_size} tokens, for {folder.config.vocab_size} rows of embeddings"
    return tokenizer, Finding("model", "tokenizer", Status.OK, detail)


def _template(folder: ModelFolder, tokenizer: Tokenizer | None, registry: Registry) -> Finding:
    """Whether the template exists, is valid, and makes a prompt with this tokenizer."""
    try:
        settings = ChatSettings.of(folder.config, None, registry, folder.path)
        detail = str(settings.template.name)
        if tokenizer is not None:
            conversation = Conversation(settings.template, tokenizer)
            prompt = conversation.prompt_ids([Message(role="user", content="Hello")])
            detail += f", whose prompt for 'Hello' has {len(prompt)} tokens"
            if max(prompt) >= folder.config.vocab_size:
                detail += f", {max(prompt)} among them, which the model does not have"
                return Finding("model", "template", Status.BROKEN, detail, TOKENIZER_FILES)
    except MLCError as error:
        remedy = "Name another one in mlc-chat-config.json; `mlc_llm templates` shows them."
        return Finding("model", "template", Status.BROKEN, str(error), remedy)
    return Finding("model", "template", Status.OK, detail)


def _library(folder: ModelFolder, registry: Registry) -> Finding:
    """Whether a library is cached for the device that ``auto`` takes; nothing is compiled."""
    try:
        architecture = registry.architecture(folder.config.model_type)
        choice = choose_device(registry=registry)
        request = LibraryRequest(
            spec=ModelSpec.of(folder.config, architecture, folder_plan(folder.config)),
            device=choice.device.name,
            target=choice.device.target(choice.index),
            model_path=folder.path,
        )
        cached = JITProvider(registry=registry).cached(request)
    except MLCError as error:
        remedy = "`mlc_llm models` and `mlc_llm devices` show what can be used."
        return Finding("model", "library", Status.BROKEN, str(error), remedy)
    if cached is None:
        detail = f"none is cached for {choice}; the first chat compiles one"
        return Finding("model", "library", Status.ABSENT, detail)
    return Finding("model", "library", Status.OK, str(cached))
