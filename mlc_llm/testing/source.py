"""Conformance tests for a format of checkpoints."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlc_llm.convert import convert_source
from mlc_llm.errors import MLCError
from mlc_llm.plugin import Scheme, Source, SourceFormat
from mlc_llm.registry.registry import Registry
from mlc_llm.testing.checkpoint_contents import (
    Values,
    are_equal,
    held_files,
    is_equal,
    is_same,
    kept_values,
    read_all,
    row_slices,
)
from mlc_llm.testing.damaged_copies import Copy, Damage
from mlc_llm.testing.registry import registry_of
from mlc_llm.tokenizer import load_tokenizer
from mlc_llm.tokenizer.chat_template import read_jinja_template
from mlc_llm.weights.folder import ModelFolder


def _text_file(folder: Path) -> Path:
    path = folder / "notes.txt"
    path.write_text("This is not a checkpoint.", encoding="utf-8")
    return path


def _random_file(folder: Path) -> Path:
    path = folder / "weights.data"
    path.write_bytes(np.random.default_rng(0).bytes(1000))
    return path


def _empty_file(folder: Path) -> Path:
    path = folder / "weights.data"
    path.touch()
    return path


def _only_a_config(folder: Path) -> Path:
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    return folder


FOREIGN: dict[str, Callable[[Path], Path]] = {
    "an empty folder": lambda folder: folder,
    "a folder with a config alone": _only_a_config,
    "a text": _text_file,
    "random bytes": _random_file,
    "an empty file": _empty_file,
    "a place with nothing": lambda folder: folder / "nowhere",
}
"""Places without a checkpoint, made in an empty folder."""


class SourceConformance:
    """Tests of a format of checkpoints. Subclass it and set :attr:`source`.

    Override :meth:`checkpoint`, without which little is tested, and :meth:`values` so that there
    is something to compare with.
    """

    source: SourceFormat
    """The format."""

    @pytest.fixture
    def checkpoint(self) -> Path:
        """A small checkpoint of the format: its file or folder, with a tokenizer.

        It may be the same every time: damage is done to copies.
        """
        pytest.skip("no checkpoint is given to read; override `checkpoint`")

    @pytest.fixture
    def values(self) -> Values | None:
        """The values of its tensors by their names on the hub, read by another implementation.

        None when there is no such implementation.
        """
        return None

    @pytest.fixture
    def registry(self) -> Registry:
        """Where the format and its architectures are looked up."""
        return registry_of(sources={self.source.name: self.source})

    @pytest.fixture
    def opened(self, checkpoint: Path, registry: Registry) -> Source:
        """The checkpoint, opened."""
        return self.source.open(checkpoint, registry)

    def test_is_accepted(self, registry: Registry) -> None:
        """The registry takes it, and it can be named in a message."""
        assert self.source in registry.source_formats(), registry.problems
        assert self.source.description, "it has no description"
        assert self.source.description.isprintable(), "its description is not one line"

    def test_recognizes_its_own(self, checkpoint: Path) -> None:
        """It recognises the checkpoint."""
        found = self.source.recognizes(checkpoint)
        assert found is True, f"it says {found!r} of {checkpoint}"

    @pytest.mark.parametrize("place", FOREIGN)
    def test_refuses_others(self, place: str, tmp_path: Path) -> None:
        """It recognises nothing else, and raises for none of it."""
        found = self.source.recognizes(FOREIGN[place](tmp_path))
        assert found is False, f"it says {found!r} of {place}"

    def test_says_what_the_model_is(self, opened: Source, registry: Registry) -> None:
        """Config and generation config are objects of JSON, and an architecture reads the first."""
        assert opened.path.exists(), f"its path is {opened.path}, which is not there"
        for name in ("config", "generation_config"):
            data = getattr(opened, name)
            assert json.loads(json.dumps(dict(data))) == data, f"its {name} is not JSON: {data!r}"
        named = opened.config.get("model_type")
        assert isinstance(named, str), f"its model_type is {named!r}"
        registry.architecture(named).config(opened.config)
        assert isinstance(opened.keeps_types, bool), f"keeps_types is {opened.keeps_types!r}"

    def test_lists_its_tensors(self, opened: Source, checkpoint: Path) -> None:
        """Each has its name, and the file, type and size that are told of it."""
        tensors = opened.tensors()
        assert tensors, "it has no tensors"
        assert list(opened.tensors()) == list(tensors), "it lists other tensors the second time"
        inside = checkpoint if checkpoint.is_dir() else checkpoint.parent
        for name, tensor in tensors.items():
            assert tensor.name == name, f"{name} says that its name is {tensor.name!r}"
            sizes = [size for size in tensor.shape if type(size) is not int or size < 0]
            assert isinstance(tensor.shape, tuple), f"{name} has the shape {tensor.shape!r}"
            assert not sizes, f"{name} has the shape {tensor.shape!r}"
            assert isinstance(tensor.dtype, str), f"{name} has the type {tensor.dtype!r}"
            assert tensor.dtype, f"{name} has no type"
            assert tensor.file.is_relative_to(inside), f"{name} is said to be in {tensor.file}"
            most = tensor.file.stat().st_size
            assert 0 <= tensor.nbytes <= most, f"{name} has {tensor.nbytes} bytes of {most}"

    def test_reads_the_values(self, opened: Source, values: Values | None) -> None:
        """What is read is float32, has the shape that was told, and is right."""
        tensors = opened.tensors()
        for name, tensor in tensors.items():
            tensor.require_readable()
            read = tensor.read()
            assert read.dtype == np.float32, f"{name} is read as {read.dtype}"
            assert read.shape == tensor.shape, f"{name} has {tensor.shape}, and reads {read.shape}"
        if values is None:
            pytest.skip("all is read, but nothing is given to compare with; override `values`")
        assert set(tensors) == set(values), _difference(set(tensors), set(values))
        for name, value in values.items():
            wanted = np.asarray(value, np.float32)
            assert is_equal(tensors[name].read(), wanted), f"{name} has other values"

    def test_reads_rows(self, opened: Source) -> None:
        """Some rows are those of the whole; the arrays are the caller's to change."""
        for name, tensor in opened.tensors().items():
            whole = np.array(tensor.read())
            for rows in row_slices(tensor.shape):
                assert is_equal(tensor.read(rows), whole[rows]), f"{name} has other rows in {rows}"
            for some in (tensor.read(), *map(tensor.read, row_slices(tensor.shape))):
                some.fill(0)
            assert is_equal(tensor.read(), whole), f"{name} changes with what was read of it"

    def test_is_kept_without_loss(self, opened: Source) -> None:
        """In the scheme that a matrix has, it has the values that are read."""
        for name, tensor in opened.tensors().items():
            scheme = tensor.scheme
            assert isinstance(scheme, Scheme | None), f"{name} has the scheme {scheme!r}"
            if scheme is not None and len(tensor.shape) == 2:
                kept = kept_values(tensor, scheme, ...)
                assert is_same(kept, tensor.read(), scheme), f"{name} has other values in {scheme}"
                for rows in row_slices(tensor.shape):
                    some = kept_values(tensor, scheme, rows)
                    assert is_equal(some, kept[rows]), f"{name} has other codes in the rows {rows}"

    def test_tokenizer_and_template(self, opened: Source, tmp_path: Path) -> None:
        """Written as files, they are what a model folder has."""
        for name, content in opened.tokenizer_files().items():
            assert Path(name).name == name, f"{name!r} is not the name of a file"
            assert isinstance(content, bytes), f"{name} is {type(content).__name__}, not bytes"
            (tmp_path / name).write_bytes(content)
        tokenizer = load_tokenizer(tmp_path)
        assert tokenizer.encode("a"), "the tokenizer gives no token for a letter"
        template = read_jinja_template(tmp_path)
        told = template and template.source
        assert told == opened.chat_template, (
            f"its chat_template is {opened.chat_template!r}, and that of its files {told!r}"
        )

    @pytest.mark.parametrize("quantization", [None, "q4f16_1"])
    def test_converts(
        self, checkpoint: Path, registry: Registry, tmp_path: Path, quantization: str | None
    ) -> None:
        """The checkpoint makes a whole model folder."""
        made = tmp_path / "made"
        convert_source(checkpoint, made, quantization=quantization, registry=registry)
        ModelFolder.open(made).close()

    def test_cut_short(self, checkpoint: Path, registry: Registry, tmp_path: Path) -> None:
        """A file that ends too early is an error that names it; or what is missing is unneeded."""
        copy = Copy(checkpoint, tmp_path / "copy")
        whole = read_all(self.source.open(copy.path, registry))
        for damage in copy.cut():
            read = self._read_damaged(copy, damage, registry)
            if read is not None:
                assert are_equal(read, whole), (
                    f"other values are read where of {damage.file.name} {damage.what}"
                )

    def test_changed_bytes(self, checkpoint: Path, registry: Registry, tmp_path: Path) -> None:
        """Whatever a changed byte means, the only errors are ours, and name what is damaged."""
        copy = Copy(checkpoint, tmp_path / "copy")
        for damage in copy.flipped():
            self._read_damaged(copy, damage, registry)

    def test_cut_short_when_it_is_open(
        self, checkpoint: Path, registry: Registry, tmp_path: Path
    ) -> None:
        """A file that another program cuts short later is an error, and does not end the process.

        A format that maps its files must look at their size before each read.
        """
        copy = Copy(checkpoint, tmp_path / "copy")
        source = self.source.open(copy.path, registry)
        whole = read_all(source)
        tensors = source.tensors()
        for file in {tensor.file for tensor in tensors.values()}:
            os.truncate(file, 0)
        for name, tensor in tensors.items():
            try:
                read = tensor.read()
            except MLCError as error:
                if not _names(error, copy, tensor.file):
                    pytest.fail(f"the error that {name} cannot be read names no file: {error}")
            else:
                assert is_equal(read, whole[name]), f"{name} has other values"

    def test_leaves_no_file_open(
        self, checkpoint: Path, registry: Registry, tmp_path: Path
    ) -> None:
        """A source that is not used any more keeps no file open or mapped, and has changed none."""
        copy = Copy(checkpoint, tmp_path / "copy")
        before = {file: file.read_bytes() for file in copy.files}
        for _ in range(3):
            read_all(self.source.open(copy.path, registry))
            gc.collect()
        assert {file: file.read_bytes() for file in copy.files} == before, "a file was changed"
        held = sorted(set(held_files(tmp_path)))
        assert not held, f"it still holds {held}"

    def _read_damaged(self, copy: Copy, damage: Damage, registry: Registry) -> Values | None:
        """What is read of a damaged copy; None where an error of ours says what is wrong."""
        where = f"where of {damage.file.name} {damage.what}"
        try:
            if not self.source.recognizes(copy.path):
                return None
            return read_all(self.source.open(copy.path, registry))
        except MLCError as error:
            if not _names(error, copy, damage.file):
                pytest.fail(f"{where}, the error names no file: {error}")
        except Exception as error:
            pytest.fail(f"{where}, {type(error).__name__} is raised: {error}")
        return None


def _names(error: MLCError, copy: Copy, file: Path) -> bool:
    """Whether an error says which file it is about, or which checkpoint."""
    return any(name in str(error) for name in (file.name, copy.path.name))


def _difference(found: set[str], wanted: set[str]) -> str:
    return f"only it has {sorted(found - wanted)}; it lacks {sorted(wanted - found)}"
