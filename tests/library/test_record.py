"""Records: found by scanning bytes, and judged without loading anything."""

from __future__ import annotations

import os
import re
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc_llm.errors import LibraryError
from mlc_llm.library.record import check_file, check_record, read_record
from mlc_llm.plugin import LibraryRecord, LibraryRequest, ModelSpec
from mlc_llm.plugin.model_library import RECORD_BEGIN, RECORD_END
from mlc_llm.quantization import plan
from mlc_llm.registry.registry import Registry
from mlc_llm.testing import raises

Write = Callable[..., Path]
MakeRequest = Callable[..., LibraryRequest]
Head = Callable[..., bytes]


class TestRead:
    def test_a_record_amid_code(self, tmp_path: Path, write: Write, record: LibraryRecord) -> None:
        assert read_record(write(tmp_path / "lib.so")) == record

    def test_the_same_record_twice_is_one(
        self, tmp_path: Path, head: Head, record: LibraryRecord
    ) -> None:
        path = tmp_path / "lib.so"
        path.write_bytes(head() + 2 * record.embedded().encode())
        assert read_record(path) == record

    def test_fields_of_later_versions_are_ignored(
        self, tmp_path: Path, head: Head, record: LibraryRecord
    ) -> None:
        path = tmp_path / "lib.so"
        path.write_bytes(
            head() + record.embedded().replace('{"format"', '{"x":1,"format"').encode()
        )
        assert read_record(path) == record

    def test_two_different_records(self, tmp_path: Path, head: Head, record: LibraryRecord) -> None:
        path = tmp_path / "lib.so"
        other = record.model_copy(update={"device": "cuda"})
        path.write_bytes(head() + (record.embedded() + other.embedded()).encode())
        with raises("library-unusable", path, "different", error=LibraryError):
            read_record(path)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (b"{", "malformed"),
            (b"{}", "record.tvm"),
            (b"[" * 100_000, "malformed"),
            (b"\xff\xfe", "malformed"),
        ],
    )
    def test_a_malformed_record(self, tmp_path: Path, head: Head, text: bytes, reason: str) -> None:
        path = tmp_path / "lib.so"
        path.write_bytes(head() + RECORD_BEGIN + text + RECORD_END)
        with raises("library-unusable", path, reason, error=LibraryError):
            read_record(path)

    def test_a_record_without_end(self, tmp_path: Path, head: Head) -> None:
        path = tmp_path / "lib.so"
        path.write_bytes(head() + RECORD_BEGIN + b"{}")
        with raises("library-unusable", path, "malformed"):
            read_record(path)

    def test_thousands_of_marks_cost_no_more_than_the_file(
        self, tmp_path: Path, head: Head, record: LibraryRecord
    ) -> None:
        """Each mark began a record of all that follows: 3.6 GB of a file of 300 KB."""
        path = tmp_path / "lib.so"
        text = record.embedded().encode()
        contents = {
            "malformed": head() + RECORD_BEGIN * 12_000 + b"{}" + RECORD_END * 2,
            "malformed ": head() + RECORD_BEGIN * 12_000,
            "several different": head()
            + text
            + b"".join(RECORD_BEGIN + b"%d" % i + RECORD_END for i in range(12_000)),
        }
        for reason, content in contents.items():
            path.write_bytes(content)
            tracemalloc.start()
            try:
                with pytest.raises(LibraryError, match=reason):
                    read_record(path)
                assert tracemalloc.get_traced_memory()[1] < 4 * len(content) + 2**20
            finally:
                tracemalloc.stop()
        path.write_bytes(head() + 1000 * text)
        assert read_record(path) == record

    def test_of_thousands_of_wrong_fields_some_are_named(self, tmp_path: Path, head: Head) -> None:
        path = tmp_path / "lib.so"
        text = b'{"cpu_features": [' + b",".join([b"1"] * 10_000) + b"]}"
        path.write_bytes(head() + RECORD_BEGIN + text + RECORD_END)
        with pytest.raises(LibraryError, match=r"record\.tvm is needed.* more such") as caught:
            read_record(path)
        assert len(str(caught.value)) < 1000

    def test_a_file_of_gigabytes_is_not_read(
        self, tmp_path: Path, head: Head, record: LibraryRecord
    ) -> None:
        path = tmp_path / "lib.so"
        with path.open("wb") as file:
            file.write(head() + record.embedded().encode())
            file.truncate(20 << 30)
        with pytest.raises(LibraryError, match="larger than a model library, which has 128 MiB"):
            read_record(path)

    @pytest.mark.skipif(sys.platform == "win32", reason="named pipes are POSIX's")
    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "lib.so")
        with pytest.raises(LibraryError, match="a device or a pipe"):
            read_record(tmp_path / "lib.so")

    def test_files_that_are_no_library(self, tmp_path: Path) -> None:
        cases = {
            "empty": (b"", "empty"),
            "text": (b"hello", "ELF"),
            "short": (b"\x7fELF\x02", "ELF"),
            "pointer": (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
                "git lfs pull",
            ),
        }
        for name, (content, reason) in cases.items():
            path = tmp_path / name
            path.write_bytes(content)
            with raises("library-unusable", path, reason, error=LibraryError):
                read_record(path)
        with raises("library-unusable", tmp_path / "absent.so", error=LibraryError):
            read_record(tmp_path / "absent.so")
        with raises("library-unusable", tmp_path, "folder"):
            read_record(tmp_path)

    def test_a_library_of_others(self, tmp_path: Path, head: Head) -> None:
        path = tmp_path / "libm.so"
        path.write_bytes(head())
        with raises("library-unusable", path, "no record", "model_lib"):
            read_record(path)

    @pytest.mark.parametrize(
        "name",
        [
            "Llama-2-7b-chat-hf-q4f16_1-cuda.so",
            "Mistral-7B-Instruct-v0.2-q4f16_1-metal.dylib",
            "Llama-2-7b-chat-hf-q4f16_1-metal_x86_64.dylib",
            "gemma-2b-it-q4f16_1-ctx4k_cs1k-webgpu.wasm",
            "phi-2-q0f16-vulkan.so",
            "prebuilt_libs/any/name.so",
        ],
    )
    @pytest.mark.parametrize("is_object", [True, False])
    def test_mlcs_official_libraries_are_told_apart(
        self, tmp_path: Path, head: Head, name: str, is_object: bool
    ) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(head() if is_object else b"\0asm")
        with raises("library-unusable", path, "MLC LLM's", "model_lib"):
            read_record(path)

    def test_another_processors_library(self, tmp_path: Path, head: Head) -> None:
        path = tmp_path / "lib.so"
        path.write_bytes(head(foreign=True))
        with raises("library-unusable", path, "processors"):
            read_record(path)

    @pytest.mark.skipif(sys.platform == "win32", reason="a PE file is native there")
    def test_another_systems_library(self, tmp_path: Path) -> None:
        path = tmp_path / "lib.dll"
        path.write_bytes(b"MZ" + b"\0" * 58 + b"\x40\0\0\0PE\0\0\x64\x86")
        with raises("library-unusable", path, "Windows"):
            read_record(path)

    @pytest.mark.parametrize(
        ("begin", "name"),
        [
            (b"GGUF\x03", "a GGUF model"),
            (b"\0asm\x01", "WebAssembly"),
            (b"\x7fELF\x01" + b"\0" * 60, "a shared library or program of 32 bits"),
            (b"!<arch>\n", "a static library"),
            (b"x" * 257 + b"ustar", "a tar archive, as MLC LLM makes them for phones"),
            (b"PK\x03\x04", "a zip archive"),
        ],
    )
    def test_another_format_is_called_by_its_name(
        self, tmp_path: Path, begin: bytes, name: str
    ) -> None:
        path = tmp_path / "lib.so"
        path.write_bytes(begin)
        with pytest.raises(LibraryError, match=f"it is {name}, not a shared library"):
            read_record(path)

    @pytest.mark.skipif(sys.platform != "linux", reason="of ELF")
    def test_an_object_file_is_not_linked(
        self, tmp_path: Path, head: Head, record: LibraryRecord
    ) -> None:
        path = tmp_path / "lib.so"
        content = bytearray(head() + record.embedded().encode())
        content[16] = 1  # ET_REL
        path.write_bytes(content)
        with pytest.raises(LibraryError, match="was not linked as a shared library"):
            read_record(path)

    @pytest.mark.skipif(sys.platform != "linux", reason="only ELF says how long it is")
    def test_a_library_that_is_cut_off(
        self, tmp_path: Path, head: Head, record: LibraryRecord
    ) -> None:
        path = tmp_path / "lib.so"
        path.write_bytes(head(cut_off=True) + record.embedded().encode())
        with raises("library-unusable", path, "cut off"):
            read_record(path)

    @given(st.binary(max_size=300), st.booleans(), st.booleans())
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_bytes_are_refused_with_a_reason(
        self, tmp_path: Path, head: Head, content: bytes, is_object: bool, marked: bool
    ) -> None:
        if marked:
            content = RECORD_BEGIN + content + RECORD_END
        path = tmp_path / "lib.so"
        path.write_bytes(head() + content if is_object else content)
        with raises("library-unusable", path, error=LibraryError):
            read_record(path)


class TestCheck:
    def test_it_fits(
        self, record: LibraryRecord, make_request: MakeRequest, registry: Registry
    ) -> None:
        assert check_record(record, make_request(), registry.device("cpu")) is None

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"tvm": "0.26.0"}, r"compiled with TVM 0\.26\.0, and this is TVM 0\.27"),
            ({"format": 1, "project": "0.0"}, r"format 1 \(mlc-llm 0\.0\).* reads format 4"),
            ({"device": "cuda"}, "for the device 'cuda', not 'cpu'"),
            ({"target": {"kind": "cuda"}}, "of kind 'cuda', not 'llvm'"),
            ({"target": {}}, "of kind None, not 'llvm'"),
            ({"cpu_features": ["no-such-feature"]}, "needs the CPU features no-such-feature"),
        ],
    )
    def test_it_does_not(
        self,
        record: LibraryRecord,
        make_request: MakeRequest,
        registry: Registry,
        changes: dict[str, Any],
        reason: str,
    ) -> None:
        changed = record.model_copy(update=changes)
        told = check_record(changed, make_request(), registry.device("cpu"))
        assert told is not None
        assert re.search(reason, told)

    def test_another_model_is_told_line_by_line(
        self, record: LibraryRecord, make_request: MakeRequest, registry: Registry
    ) -> None:
        spec = ModelSpec(architecture="mistral", shape={"hidden_size": 128}, plan=plan("q4f16_1"))
        told = check_record(record, make_request(spec=spec), registry.device("cpu"))
        assert told == (
            "it is for another model:\n"
            "  architecture: 'llama', not 'mistral'\n"
            "  hidden_size: 64, not 128"
        )

    def test_a_named_file_brings_its_own_options(
        self, tmp_path: Path, write: Write, make_request: MakeRequest, registry: Registry
    ) -> None:
        cpu = registry.device("cpu")
        request = make_request()
        spec = request.spec.model_copy(update={"opt": "activations=a8"})
        path = write(tmp_path / "lib.so", spec=spec)
        assert check_file(path, make_request(named=path), cpu) is None
        told = check_file(path, request, cpu)
        assert told is not None
        assert "opt: 'activations=a8', not ''" in told
        other = spec.model_copy(update={"opt": "activations=f32"})
        assert check_file(path, make_request(named=path, spec=other), cpu) is not None

    def test_a_device_that_cannot_judge(
        self, record: LibraryRecord, make_request: MakeRequest, registry: Registry
    ) -> None:
        cpu = type(registry.device("cpu"))

        class Upset(cpu):  # type: ignore[misc, valid-type]
            def mismatch(self, record: LibraryRecord, target: Any) -> str | None:
                raise RuntimeError("upset")

        told = check_record(record, make_request(), Upset())
        assert told == "the device 'cpu' cannot judge it: RuntimeError: upset"
