"""One model: its folder, its tokenizer, its template, and whether it has a library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mlc_llm.chat.settings import ChatSettings
from mlc_llm.cli.doctor.finding import Finding, Status
from mlc_llm.cli.doctor.python import threads_finding
from mlc_llm.conversation import Conversation, Message
from mlc_llm.errors import HubError, MLCError
from mlc_llm.library.jit import JITProvider
from mlc_llm.plugin import LibraryRequest, ModelSpec
from mlc_llm.quantization import folder_plan
from mlc_llm.registry.choice import choose_device
from mlc_llm.registry.registry import Registry
from mlc_llm.runtime.threads import thread_count
from mlc_llm.tokenizer import Tokenizer, check_vocab, load_tokenizer
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.hub import HubReference
from mlc_llm.weights.locate import resolve_model

AGAIN = "Fetch or convert the model again, into an empty folder."


def check_model(model: str, registry: Registry, online: bool) -> Iterator[Finding]:
    """Check a model's folder, whole.

    Args:
        model: what ``mlc_llm chat`` takes: a folder, or a repository on the hub.
        registry: where plugins are looked up.
        online: whether a repository that is not in the hub's cache may be fetched.
    """
    try:
        path = local_folder(model, online)
        folder = ModelFolder.open(path)
    except MLCError as error:
        remedy = "Fetch it: mlc_llm chat " + model if isinstance(error, HubError) else AGAIN
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


def local_folder(model: str, online: bool) -> Path:
    """The model's folder; unless ``online``, only from the hub's cache.

    Raises:
        MLCError: there is none.
    """
    reference = HubReference.parse(model)
    if reference is None or online:
        return resolve_model(model)
    from huggingface_hub import snapshot_download

    try:
        name, revision = reference.repository, reference.revision
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except Exception as error:  # what it raises depends on its version
        raise HubError(
            f"{reference} is not in the hub's cache.", code="model-not-cached"
        ) from error


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
        check_vocab(tokenizer, folder.config.vocab_size)
    except MLCError as error:
        remedy = "Copy the tokenizer files of the original model into the folder."
        return None, Finding("model", "tokenizer", Status.BROKEN, str(error), remedy)
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
