"""Writing ``mlc-chat-config.json`` and the tokenizer's files."""

from __future__ import annotations

import contextlib
import errno
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from mlc_llm.config import CHAT_CONFIG_FILE, UNSAID_SAMPLING, ChatConfig, ConvConfig, ModelFile
from mlc_llm.config.explain import explain
from mlc_llm.convert.source import SourceModel
from mlc_llm.convert.weight import chosen_plan
from mlc_llm.convert.window_sizes import Sizes, WindowSizes
from mlc_llm.errors import (
    ConfigError,
    ConversionError,
    ModelFolderError,
    TemplateError,
    TokenizerError,
)
from mlc_llm.files import write_atomically
from mlc_llm.home import expand_home
from mlc_llm.model.text_part import text_config
from mlc_llm.plugin import ConversationTemplate, Plan
from mlc_llm.plugin.model_library import config_of
from mlc_llm.quantization import folder_fields, plan
from mlc_llm.registry.registry import Registry, default_registry
from mlc_llm.shown import shown
from mlc_llm.sources.folder import CONFIG_FILE, GENERATION_FILE
from mlc_llm.sources.tokenizer_files import tokenizer_info
from mlc_llm.tokenizer import Tokenizer, load_tokenizer
from mlc_llm.tokenizer.chat_template import require_jinja_template
from mlc_llm.tokenizer.template_ids import fitted
from mlc_llm.weights.paths import is_folder
from mlc_llm.weights.scratch import scratch_folder

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
    quantization: str | Plan | None,
    conv_template: str | None,
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
    """Write a model folder's ``mlc-chat-config.json`` and the tokenizer's files beside it.

    Args:
        source: what :func:`mlc_llm.convert_weight` takes.
        quantization: the quantisation's name, such as ``q4f16_1``, or a plan; None for the one
            that ``convert_weight`` chooses then.
        conv_template: a conversation template's name, such as ``llama-2``; None for the model's
            own chat template.
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
        registry: where formats, architecture and template are looked up; by default among the
            installed plugins.

    Returns:
        The path of ``mlc-chat-config.json``.

    Raises:
        QuantizationError: there is no quantisation of that name.
        TemplateError: there is no conversation template of that name, the model has none of its
            own, or the template has no place for a system message.
        ConfigError: a size or a setting is out of its range, or a size contradicts another.
        ModelNotFoundError: there is no such source.
        HubError: the source could not be fetched.
        PluginError: there is no such architecture.
        TokenizerError: the tokenizer is missing, malformed, or another model's.
        ConversionError: the source is malformed, or the output could not be written.
    """
    if isinstance(quantization, str):  # a wrong name is found before anything is fetched
        quantization = plan(quantization)
    registry = registry or default_registry()
    sampling = ChatConfig(
        temperature=temperature,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
    ).overrides()
    template = None if conv_template is None else registry.template(conv_template)
    if template is not None:
        template = _with_system(template, system_message)
    model = SourceModel.open(source, registry=registry)
    chosen = chosen_plan(quantization, model)
    sizes = Sizes(
        context_window_size=context_window_size,
        sliding_window_size=sliding_window_size,
        prefill_chunk_size=prefill_chunk_size,
        attention_sink_size=attention_sink_size,
        max_batch_size=max_batch_size,
    )
    folder = expand_home(output, ConversionError, "The output")
    if template is None and system_message is not None:
        sampling = {**sampling, **_system(system_message)}
    return write_config(model, chosen, template, sizes, folder, sampling)


def write_config(
    model: SourceModel,
    chosen: Plan,
    template: ConversationTemplate | None,
    sizes: Sizes,
    folder: Path,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Write a model's configuration and tokenizer into a folder, as :func:`gen_config` does.

    Args:
        model: the model.
        chosen: how its weights are stored.
        template: its conversation template; None for its own chat template.
        sizes: what the user asks for.
        folder: the model folder; made if need be.
        settings: further fields of the file, which take the place of the model's.
    """
    windows = WindowSizes.choose(model.config, sizes)
    files = dict(model.source.tokenizer_files())
    batch = 1 if sizes.max_batch_size is None else sizes.max_batch_size
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
        **_generation(model),
        "tokenizer_files": list(files),
        **_of_tokenizer(model, files, template),
        **settings,
    }
    _validate(data, model)
    return _write(model.source.path, folder, files, data)


def _system(message: str) -> dict[str, Any]:
    """The field for a system message of the model's own chat template."""
    return {"conv_config": {"system_message": message}}


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
    data = model.source.generation_config
    said = any(data.get(name) is not None for name in UNSAID_SAMPLING)
    defaults = _SAMPLING if said else {**_SAMPLING, **UNSAID_SAMPLING}
    found: dict[str, Any] = {}
    for name, default in defaults.items():
        value = data.get(name)
        found[name] = default if value is None else value
    if data.get("do_sample") is False:
        found["temperature"] = 0.0  # The likeliest token, whatever else the file says.
    config = text_config(model.source.config)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        value = data.get(name)
        found[name] = config.get(name) if value is None else value
    return found


def _of_tokenizer(
    model: SourceModel, files: Mapping[str, bytes], template: ConversationTemplate | None
) -> dict[str, Any]:
    """What the file says of the tokenizer, and the template with that tokenizer's ids."""
    # These name special tokens, where the tokenizer's own files do not.
    beside = {
        CONFIG_FILE: json.dumps(dict(model.source.config)).encode(),
        GENERATION_FILE: json.dumps(dict(model.source.generation_config)).encode(),
    }
    with _temporary_folder({**beside, **files}) as folder:
        try:
            tokenizer = load_tokenizer(folder)
            return {
                "active_vocab_size": tokenizer.vocab_size,
                "tokenizer_info": tokenizer_info(folder),
                **_conv_template(template, tokenizer, folder),
            }
        except (ConversionError, TemplateError, TokenizerError) as error:
            # What is wrong with the files is wrong with those that they were made of.
            message = str(error).replace(str(folder), str(model.source.path))
            raise type(error)(message, code=error.code) from error


@contextlib.contextmanager
def _temporary_folder(files: Mapping[str, bytes]) -> Iterator[Path]:
    """A folder with these files.

    Raises:
        ConversionError: it cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="mlc-llm-tokenizer-") as name:
            for file, content in files.items():
                (Path(name) / file).write_bytes(content)
            yield Path(name)
    except OSError as error:
        full = error.errno == errno.ENOSPC
        raise ConversionError(
            f"Writing the tokenizer to a temporary folder failed: {error.strerror or error}. Free "
            "some space there, or name another place with the variable TMPDIR.",
            code="disk-full" if full else "file-unwritable",
        ) from error


def _conv_template(
    template: ConversationTemplate | None, tokenizer: Tokenizer, folder: Path
) -> dict[str, Any]:
    """The template that was named; nothing where the model's own counts, which must be there."""
    if template is None:
        require_jinja_template(folder)
        return {}
    return {"conv_template": _template(fitted(template, tokenizer))}


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
        f"The configuration in {model.source.path} cannot be used: {problems}",
        code="source-config-invalid",
    )


def _write(source: Path, output: Path, files: Mapping[str, bytes], data: dict[str, Any]) -> Path:
    """Write the tokenizer's files; the configuration last, which makes them count."""
    config, text = output / CHAT_CONFIG_FILE, _text(source, data)
    is_folder(output, ConversionError)  # or it cannot be one
    try:
        output.mkdir(parents=True, exist_ok=True)
        with scratch_folder(output) as made:
            new = [name for name, content in files.items() if not _has(output / name, content)]
            for name in new:
                write_atomically(made / name, files[name])
            write_atomically(made / CHAT_CONFIG_FILE, text)
            for name in (*new, CHAT_CONFIG_FILE):
                (made / name).replace(output / name)
    except OSError as error:
        full = error.errno == errno.ENOSPC
        reason = "the disk is full" if full else error.strerror or str(error)
        raise ConversionError(
            f"Writing to {output} failed: {reason}.", code="file-unwritable"
        ) from error
    return config


def _has(path: Path, content: bytes) -> bool:
    """Whether a file has that content already, as where the output is the source."""
    return path.is_file() and path.read_bytes() == content


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
