"""Reading a library's record, and judging by it whether the library fits. Nothing is loaded."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from mlc_llm.config.explain import explain
from mlc_llm.errors import LibraryError
from mlc_llm.library.object_file import object_problem
from mlc_llm.plugin.device import Device
from mlc_llm.plugin.model_library import (
    RECORD_BEGIN,
    RECORD_END,
    RECORD_FORMAT,
    LibraryRecord,
    LibraryRequest,
)
from mlc_llm.registry.entry import describe
from mlc_llm.shown import shown
from mlc_llm.version import tvm_version
from mlc_llm.weights.paths import shown as shown_path

MAX_RECORD_BYTES = 1 << 20

LARGEST_LIBRARY = 1 << 27
"""Bytes. Libraries have a few MB; weights, which may be any size, are not in them."""

_MOST_DIFFERENCES = 20
"""Fields that differ which a message lists."""

OFFICIAL_NAME = re.compile(
    r"-q\d+f\d+(_\d+)?(-\w+)*-(cuda|rocm|vulkan|metal\w*|opencl|mali|android|iphone|webgpu)"
    r"\.(so|dll|dylib|tar|wasm)"
)
"""How MLC LLM names the files of its repository of prebuilt libraries."""

COMPILE_ANEW = "Leave model_lib out, and a library is compiled for this machine."


def read_record(path: Path) -> LibraryRecord:
    """Find the record in a library's bytes.

    Raises:
        LibraryError: there is no such file, it is not a shared library of this machine, it holds no
            record (it was not built by mlc-llm), a malformed one, or several that differ.
    """
    record = _examine(path)
    if isinstance(record, str):
        raise LibraryError(refusal(path, record))
    return record


def refusal(path: Path | str, reason: str) -> str:
    """The message for a library that was named and cannot be used: why, and what to do."""
    end = "\n" if "\n" in reason else " "
    return f"The model library {shown_path(path)} cannot be used: {reason}.{end}{COMPILE_ANEW}"


def check_file(path: Path, request: LibraryRequest, device: Device) -> str | None:
    """Why a file does not serve the request on this machine, or None. See check_record."""
    record = _examine(path)
    return record if isinstance(record, str) else check_record(record, request, device)


def _examine(path: Path) -> LibraryRecord | str:
    """The record in a file, or why there is none to be had."""
    try:
        state = path.stat()
        if stat.S_ISDIR(state.st_mode):
            return "it is a folder, not a file"
        if not stat.S_ISREG(state.st_mode):
            return "it is not a file, but a device or a pipe"
        if state.st_size > LARGEST_LIBRARY:
            return (
                f"it is larger than a model library, which has {LARGEST_LIBRARY >> 20} MiB at most"
            )
        with path.open("rb") as file:
            # Read and not mapped: a file that is cut short while it is mapped ends the process.
            data = file.read(state.st_size)
        return _find_record(path, data) if data else "it is empty"
    except FileNotFoundError:
        return "there is no such file"
    except (OSError, ValueError) as error:
        return f"it cannot be read: {getattr(error, 'strerror', None) or error}"


def _find_record(path: Path, data: bytes) -> LibraryRecord | str:
    problem = object_problem(data)
    first, several = _record_text(data) if problem is None else (None, False)
    if first is None:
        if _is_official(path):
            return (
                "it is, by its name, one of MLC LLM's prebuilt libraries, which belong to another "
                "TVM"
            )
        return problem or "it was not built by mlc-llm, as it has no record"
    if several:
        return "it has several different records, so that it cannot be told what it is"
    try:
        return LibraryRecord.model_validate_json(first)
    except ValidationError as error:
        problems = explain(error, "record", LibraryRecord.model_fields)
        return f"its record is malformed ({problems.rstrip('.')})"


def _record_text(data: bytes) -> tuple[bytes | None, bool]:
    """The record that a file has, and whether another one follows that differs."""
    texts = _record_texts(data)
    first = next(texts, None)
    return first, any(text != first for text in texts)


def _record_texts(data: bytes) -> Iterator[bytes]:
    """What stands between the record's marks; no byte is part of two, or looked at twice."""
    start = data.find(RECORD_BEGIN)
    while start >= 0:
        start += len(RECORD_BEGIN)
        end = data.find(RECORD_END, start, start + MAX_RECORD_BYTES)
        if end < 0:
            yield b"(it has no end)"
            return
        yield data[start:end]
        start = data.find(RECORD_BEGIN, end)


def _is_official(path: Path) -> bool:
    return "prebuilt_libs" in path.parts or OFFICIAL_NAME.search(path.name) is not None


def check_record(record: LibraryRecord, request: LibraryRequest, device: Device) -> str | None:
    """Why a library with this record does not serve the request on this machine, or None.

    Args:
        record: the library's record.
        request: what is asked for. For a file that the user named, a request without compilation
            options takes the library's own.
        device: the device that the request names.
    """
    if record.format != RECORD_FORMAT:
        return (
            f"its record has format {record.format} (mlc-llm {record.project}), and this mlc-llm "
            f"reads format {RECORD_FORMAT}"
        )
    if record.tvm != tvm_version():
        return f"it was compiled with TVM {record.tvm}, and this is TVM {tvm_version()}"
    wanted = request.spec
    if request.named is not None:
        own = record.spec
        update = {
            "opt": wanted.opt or own.opt,
            "deterministic": wanted.deterministic or own.deterministic,
        }
        wanted = wanted.model_copy(update=update)
    differences = record.spec.differences(wanted)
    if differences:
        lines = [f"  {line}" for line in differences[:_MOST_DIFFERENCES]]
        if len(differences) > len(lines):
            lines.append(f"  and {len(differences) - len(lines)} more")
        return "\n".join(["it is for another model:", *lines])
    if record.device != request.device:
        return f"it is for the device {shown(record.device)}, not {shown(request.device)}"
    kind, wanted_kind = record.target.get("kind"), request.target.get("kind")
    if kind != wanted_kind:
        return f"its target is of kind {shown(kind)}, not {shown(wanted_kind)}"
    try:
        return device.mismatch(record, request.target)
    except Exception as error:
        return f"the device {device.name!r} cannot judge it: {describe(error)}"
