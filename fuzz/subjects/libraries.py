"""Model libraries as they look from outside: an object file's head, and a record."""

from __future__ import annotations

import platform
import struct
from functools import cached_property
from pathlib import Path
from random import Random

from fuzz.mutation import mutate_bytes, mutate_json
from fuzz.subject import Case, Subject
from mlc_llm.errors import LibraryError
from mlc_llm.library.record import check_file, read_record
from mlc_llm.plugin import LibraryRecord, LibraryRequest, ModelSpec
from mlc_llm.plugin.model_library import RECORD_BEGIN, RECORD_END
from mlc_llm.quantization import plan
from mlc_llm.registry.registry import default_registry
from mlc_llm.version import tvm_version

_FILE = "library.so"
SPEC = ModelSpec(architecture="llama", shape={"hidden_size": 64}, plan=plan("q4f16_1"))
TARGET = {"kind": "llvm", "mcpu": "x86-64-v3"}


def library_of(record: LibraryRecord) -> bytes:
    """A file that looks like a library of this machine."""
    machine = 183 if platform.machine().lower() in ("arm64", "aarch64") else 62
    numbers = (3, machine, 1, 0, 0, 0, 0, 64, 56, 0, 64, 0, 0)
    head = b"\x7fELF\x02\x01\x01" + b"\0" * 9 + struct.pack("<HHIQQQIHHHHHH", *numbers)
    return head + b"code" + record.embedded().encode() + b"\0more code"


def record_of() -> LibraryRecord:
    """A record that fits this machine."""
    return LibraryRecord(
        tvm=tvm_version(), project="0.1.0", spec=SPEC, device="cpu", target=TARGET, cpu_features=[]
    )


class LibraryRecords(Subject):
    """A library's record is read, and judged by; nothing is opened."""

    name = "library-record"

    def seeds(self) -> list[Case]:
        other = record_of().model_copy(update={"cpu_features": ["avx512f"], "tvm": "0.1"})
        return [{_FILE: library_of(record)} for record in (record_of(), other)]

    def mutate(self, name: str, content: bytes, random: Random) -> bytes:
        begin, end = content.find(RECORD_BEGIN), content.find(RECORD_END)
        if begin < 0 or end < begin or random.random() < 0.3:
            return mutate_bytes(content, random)
        begin += len(RECORD_BEGIN)
        try:
            record = mutate_json(content[begin:end], random)
        except ValueError:  # It was damaged before.
            return mutate_bytes(content, random)
        return content[:begin] + record + content[end:]

    @cached_property
    def _request(self) -> LibraryRequest:
        return LibraryRequest(SPEC, "cpu", TARGET, Path.cwd())

    def feed(self, folder: Path) -> None:
        device = default_registry().device("cpu")
        reason = check_file(folder / _FILE, self._request, device)
        if reason is not None and len(reason) > 10_000:
            raise LibraryError(reason)
        read_record(folder / _FILE).embedded()
