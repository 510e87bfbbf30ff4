"""Writing ``mlc-chat-config.json`` and the tokenizer's files."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlc_llm.config import CHAT_CONFIG_FILE, UNSAID_SAMPLING, ChatConfig, ConvConfig, ModelFile
from mlc_llm.config.explain import explain
from mlc_llm.convert.source import SourceModel
from mlc_llm.convert.tokenizer_files import find_tokenizer_files, tokenizer_info
from mlc_llm.convert.window_sizes import WindowSizes
from mlc_llm.errors import ConfigError, ConversionError, ModelFolderError, TemplateError
from mlc_llm.files import read_json_object, write_atomically
from mlc_llm.home import expand_home
from mlc_llm.plugin import ConversationTemplate, Plan
from mlc_llm.plugin.model_library import config_of
from mlc_llm.quantization import folder_fields, plan
from mlc_llm.registry.registry import Registry, default_registry
from mlc_llm.shown import shown
from mlc_llm.tokenizer import Tokenizer, check_vocab, load_tokenizer
from mlc_llm.tokenizer.template_ids import fitted
from mlc_llm.weights.paths import is_file, is_folder
from mlc_llm.weights.scratch import scratch_folder

GENERATION_FILE = "generation_config.json"

_SAMPLING = {
    "temperature": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "top_p": 1.0,
}
"""Sampling settings that are taken from the source, and their values where it has none."""


def gen_config(
    source: str | Path,
    quantization: str | Plan,
    conv_template: str,
    output: str | Path,
    *,
    context_window_size: int | None = None,
    sliding_window_size: int | None = None,
    prefill_chunk_size: int | None = None,
    attention_sink_size: int | None = None,
    max_batch_size: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    repetition_penalty: float | None = None,
    presence_penalty: float | None = None,
    frequency_penalty: float | None = None,
    system_message: str | None = None,
    registry: Registry | None = None,
) -> Path:
    """Write a model folder's ``mlc-chat-config.json`` and copy the tokenizer's files into it.

    Args:
        source: a model in Hugging Face's layout: a folder or ``HF://org/name``.
        quantization: the quantisation's name, such as ``q4f16_1``, or a plan.
        conv_template: the conversation template's name, such as ``llama-2``.
        output: the model folder to write to; made if need be.
        context_window_size: tokens that the conversation may hold; by default what the model was
            trained for, or, with a sliding window, -1: no limit.
        sliding_window_size: tokens that attention looks back, -1 for all; by default the model's.
        prefill_chunk_size: most tokens of one prefill step; by default the architecture's, and no
            more than the window.
        attention_sink_size: first tokens that a sliding window keeps; by default the model's.
        max_batch_size: most sequences that are generated at once; 1 by default.
        temperature: how freely tokens are chosen, 0 for the likeliest; by default the source's.
        top_p: share of the likeliest tokens' probability that is kept; by default the source's.
        repetition_penalty: as in :class:`~mlc_llm.config.ChatConfig`; by default the source's.
        presence_penalty: as in ``ChatConfig``; by default the source's.
        frequency_penalty: as in ``ChatConfig``; by default the source's.
        system_message: the system message; by default the template's own.
        registry: where the architecture and the template are looked up; by default among the
            installed plugins.

    Returns:
        The path of ``mlc-chat-config.json``.

    Raises:
        QuantizationError: there is no quantisation of that name.
        TemplateError: there is no conversation template of that name, or it has no place for a
            system message.
        ConfigError: a size or a setting is out of its range, or a size contradicts another.
        ModelNotFoundError: there is no such source.
        HubError: the source could not be fetched.
        PluginError: there is no such architecture.
        TokenizerError: the tokenizer is missing, malformed, or another model's.
        ConversionError: the source is malformed, or the output could not be written.
    """
    chosen = plan(quantization) if isinstance(quantization, str) else quantization
    registry = registry or default_registry()
    sampling = ChatConfig(
        temperature=temperature,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
    ).overrides()
    template = _with_system(registry.template(conv_template), system_message)
    model = SourceModel.open(source, registry=registry)
    windows = WindowSizes.choose(
        model.config,
        context_window_size=context_window_size,
        sliding_window_size=sliding_window_size,
        prefill_chunk_size=prefill_chunk_size,
        attention_sink_size=attention_sink_size,
    )
    tokenizer = load_tokenizer(model.folder)
    check_vocab(tokenizer, model.config.vocab_size)
    batch = 1 if max_batch_size is None else max_batch_size
    data = {
        "version": "0.1.0",
        "model_type": model.architecture.name,
        **folder_fields(chosen),
        "model_config": _model_config(model, windows, batch),
        "vocab_size": model.config.vocab_size,
        "active_vocab_size": None,  # its place in the file; the tokenizer says it
        **windows.fields(),
        "tensor_parallel_shards": 1,
        "pipeline_parallel_stages": 1,
        "max_batch_size": batch,
        **{**_generation(model), **sampling},
        **_tokenizer(model, tokenizer),
        "conv_template": _template(fitted(template, tokenizer)),
    }
    _validate(data, model)
    folder = expand_home(output, ConversionError, "The output")
    return _write(model.folder, folder, data)


def _with_system(template: ConversationTemplate, message: str | None) -> ConversationTemplate:
    """The template with another system message, if one is given.

    Raises:
        TemplateError: it has no place for one.
    """
    if message is None:
        return template
    if not template.takes_system_message:
        raise TemplateError(
            f"The template {shown(template.name)} has no place for a system message.",
            code="template-without-system",
        )
    return template.overlaid(ConvConfig(system_message=message))


def _model_config(model: SourceModel, windows: WindowSizes, batch: int) -> dict[str, Any]:
    """The architecture's own fields, with those that MLC writes beside them."""
    return {
        **model.config.model_dump(mode="json"),
        **windows.fields(),
        "tensor_parallel_shards": 1,
        "pipeline_parallel_stages": 1,
        "max_batch_size": batch,
    }


def _generation(model: SourceModel) -> dict[str, Any]:
    """Sampling settings and special tokens, from ``generation_config.json`` or ``config.json``."""
    path = model.folder / GENERATION_FILE
    data = read_json_object(path, ConversionError) if is_file(path, ConversionError) else {}
    said = any(data.get(name) is not None for name in UNSAID_SAMPLING)
    defaults = _SAMPLING if said else {**_SAMPLING, **UNSAID_SAMPLING}
    found: dict[str, Any] = {}
    for name, default in defaults.items():
        value = data.get(name)
        found[name] = default if value is None else value
    if data.get("do_sample") is False:
        found["temperature"] = 0.0  # The likeliest token, whatever else the file says.
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        value = data.get(name)
        found[name] = model.data.get(name) if value is None else value
    return found


def _tokenizer(model: SourceModel, tokenizer: Tokenizer) -> dict[str, Any]:
    """What the file says of the tokenizer."""
    return {
        "active_vocab_size": tokenizer.vocab_size,
        "tokenizer_files": find_tokenizer_files(model.folder),
        "tokenizer_info": tokenizer_info(model.folder),
    }


def _template(template: ConversationTemplate) -> dict[str, Any]:
    """The template as MLC writes it: our own fields only where they say something."""
    data = template.model_dump(mode="json")
    for name in ("add_bos", "has_memory", "system_optional", "system_in_last_turn"):
        if data[name] == ConversationTemplate.model_fields[name].default:
            del data[name]
    return data


def _validate(data: dict[str, Any], model: SourceModel) -> None:
    if data["max_batch_size"] < 1:
        raise ConfigError(
            f"max_batch_size must be at least 1, not {data['max_batch_size']}.",
            code="size-invalid",
        )
    try:
        config_of(ModelFile.model_validate(data), model.architecture)
    except ValidationError as error:
        problems = explain(error, "", ModelFile.model_fields)
    except ModelFolderError as error:
        problems = str(error)
    else:
        return
    raise ConversionError(
        f"The configuration in {model.folder} cannot be used: {problems}",
        code="source-config-invalid",
    )


def _write(source: Path, output: Path, data: dict[str, Any]) -> Path:
    """Copy the tokenizer's files; write the configuration last, which makes them count."""
    config, text = output / CHAT_CONFIG_FILE, _text(source, data)
    is_folder(output, ConversionError)  # or it cannot be one
    try:
        output.mkdir(parents=True, exist_ok=True)
        with scratch_folder(output) as made:
            copied = [
                name for name in data["tokenizer_files"] if not _is_same(name, source, output)
            ]
            for name in copied:
                write_atomically(made / name, (source / name).read_bytes())
            write_atomically(made / CHAT_CONFIG_FILE, text)
            for name in (*copied, CHAT_CONFIG_FILE):
                (made / name).replace(output / name)
    except OSError as error:
        full = error.errno == errno.ENOSPC
        reason = "the disk is full" if full else error.strerror or str(error)
        raise ConversionError(
            f"Writing to {output} failed: {reason}.", code="file-unwritable"
        ) from error
    return config


def _is_same(name: str, source: Path, output: Path) -> bool:
    """Whether a file of both folders is one, as where they are the same folder."""
    return (output / name).exists() and (output / name).samefile(source / name)


def _text(source: Path, data: dict[str, Any]) -> bytes:
    """The file's content; what JSON or UTF-8 does not have is refused."""
    try:
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
        return f"{text}\n".encode()
    except UnicodeError:
        problem = "a text in it holds half of a character"
    except ValueError:
        problem = "a number in it is NaN or infinity"
    raise ConversionError(f"The configuration in {source} cannot be used: {problem}.")
