"""Files that are cut where something begins or ends: none of them is taken for a whole one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from fuzz.injection.program import Unsound
from fuzz.subjects.demo import demo
from mlc_llm.chat.saving import CACHE_SUFFIX
from mlc_llm.config import CHAT_CONFIG_FILE
from mlc_llm.convert import convert_weight
from mlc_llm.errors import MLCError
from mlc_llm.library.cache import DIGEST_SUFFIX, LibraryCache
from mlc_llm.library.record import read_record
from mlc_llm.testing.model_folder import convert_checkpoint, make_checkpoint
from mlc_llm.tokenizer import load_tokenizer
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.manifest import MANIFEST_FILE, Manifest

_SIZES = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 32, "head_dim": 8}


def cut_everywhere(kind: str, folder: Path) -> Iterator[str]:
    """Cut files of a kind at every place of interest.

    Args:
        kind: one of :data:`KINDS`.
        folder: an empty folder.

    Yields:
        What became of each.

    Raises:
        Unsound: a file that was cut was taken for a whole one.
    """
    return KINDS[kind](folder)


def _shards(folder: Path) -> Iterator[str]:
    """Shards, before the folder is opened and after."""
    model = _model(folder)
    with ModelFolder.open(model) as opened:
        manifest = opened.manifest
    for shard in manifest.shards:
        edges = {edge for t in shard.tensors for edge in (t.offset, t.offset + t.nbytes)}
        for file in _cuts(model / shard.file, edges):
            yield _refused(lambda: ModelFolder.open(model), file)
        opened = ModelFolder.open(model)
        for file in _cuts(model / shard.file, edges):
            yield _refused(lambda: _read_all(opened), file)  # noqa: B023 - called at once
            opened.close()


def _read_all(folder: ModelFolder) -> None:
    for name in folder.manifest.tensors:
        folder.read(name).sum()


def _small_files(folder: Path) -> Iterator[str]:
    """The configuration, the manifest and the tokenizer of a model folder."""
    model = _model(folder)
    readers: dict[str, Callable[[], object]] = {
        CHAT_CONFIG_FILE: lambda: ModelFolder.open(model),
        MANIFEST_FILE: lambda: Manifest.load(model / MANIFEST_FILE),
        "tokenizer.json": lambda: load_tokenizer(model),
    }
    for name, reader in readers.items():
        for file in _cuts(model / name, range(0, (model / name).stat().st_size, 97)):
            yield _refused(reader, file)


def _checkpoints(folder: Path) -> Iterator[str]:
    """A checkpoint's tensors."""
    source = make_checkpoint(folder / "source", **_SIZES)
    file = source / "model.safetensors"
    header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    for cut in _cuts(file, {7, 8, 9, header - 1, header, header + 1, header + 4096}):
        yield _refused(lambda: convert_weight(source, "q4f16_1", folder / "made"), cut)
        if (folder / "made").exists():
            raise Unsound("a conversion that was refused has left a folder")


def _saved_chats(folder: Path) -> Iterator[str]:
    """A conversation, and its keys and values."""
    chat, path = demo(), folder / "chat.json"
    chat.reset_chat()
    chat.generate("What is 1+1? Tell me.")
    chat.save(path)
    for file in _cuts(path, range(0, path.stat().st_size, 5)):
        yield _refused(lambda: chat.load(path), file)
    cache = path.with_name(path.name + CACHE_SUFFIX)
    header = 8 + int.from_bytes(cache.read_bytes()[:8], "little")
    size = cache.stat().st_size
    for file in _cuts(
        cache, {8, header, header + 1, header + 64, *range(header, size, size // 40)}
    ):
        restored = chat.load(path)
        if restored.tokens or not restored.reason:
            raise Unsound(f"keys and values were restored of {file.stat().st_size} bytes of {size}")
        yield "refused"


def _libraries(folder: Path) -> Iterator[str]:
    """A library in the cache, and its digest."""
    cache = LibraryCache(folder / "libraries")
    cache.folder.mkdir(mode=0o700)
    built = folder / "built.so"
    shutil.copy(demo().model_lib, built)
    library = cache.publish(built, "key")
    digest = library.with_name(library.name + DIGEST_SUFFIX)
    for cut in (library, digest):
        for file in _cuts(cut, {64, 4096, *range(0, cut.stat().st_size, cut.stat().st_size // 30)}):
            if cache.problem(library) is None:
                raise Unsound(f"{file} was taken")
            if cut is library:
                _refused(lambda: read_record(library), file)
            yield "refused"


KINDS: dict[str, Callable[[Path], Iterator[str]]] = {
    "shards": _shards,
    "small files": _small_files,
    "checkpoints": _checkpoints,
    "saved chats": _saved_chats,
    "cached libraries": _libraries,
}
"""What is cut, by name."""


def _model(folder: Path) -> Path:
    source = make_checkpoint(folder / "source", **_SIZES)
    return convert_checkpoint(source, folder / "model", "q4f16_1", "llama-2")


def _cuts(file: Path, edges: Iterable[int]) -> Iterator[Path]:
    """The file, cut at each edge, and a byte before and after; whole again at the end."""
    whole = file.read_bytes()
    near = {edge + step for edge in edges for step in (-1, 0, 1)} | {0, 1, len(whole) - 1}
    try:
        for size in sorted(near):
            if 0 <= size < len(whole.rstrip(b"\n")):  # No text ends with its last line end.
                file.write_bytes(whole[:size])
                yield file
    finally:
        file.write_bytes(whole)


def _refused(read: Callable[[], object], file: Path) -> str:
    """Read what was cut, which must be an error of ours."""
    try:
        read()
    except MLCError:
        return "refused"
    raise Unsound(f"{file.name} was taken with {file.stat().st_size} bytes")
