"""Keys and values in a file: they come back as they were, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from mlc_llm.errors import SavedChatError
from mlc_llm.runtime.cache_file import CacheFile, write_cache_file
from mlc_llm.runtime.engine import Stop
from mlc_llm.runtime.identity import Identity, ModelFiles
from mlc_llm.runtime.kv_cache import KVCache
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.runtime.metadata import KVCacheGeometry, LayerAttention
from mlc_llm.runtime.sequence import DECODED, PREFILLED, CachedSequence, Run, prompt_phases
from mlc_llm.testing import raises

from .conftest import Loader
from .toy_library import HEAD_DIM, KV_HEADS, LAYERS, PAGE, VOCAB

IDENTITY = Identity("toy", "a" * 64, "b" * 64)


def ids(count: int, seed: int = 1) -> list[int]:
    return np.random.default_rng(seed).integers(0, VOCAB, count).tolist()


def geometry(dtype: str = "float32", layers: int = 2, key: int = 6, value: int = 4) -> Any:
    one = LayerAttention(query_heads=4, kv_heads=2, key_size=key, value_size=value)
    return KVCacheGeometry(dtype=dtype, page_size=4, layers=[one] * layers)


def make_cache(shape: KVCacheGeometry, sequences: int = 3, length: int = 24) -> KVCache:
    import tvm

    return KVCache(shape, length, 8, tvm.cpu(), sequences)


def fill(cache: KVCache, seed: int = 0) -> None:
    """Random bits in every page of every layer."""
    rng = np.random.default_rng(seed)
    for layer in range(len(cache.pages)):
        pages = bits(cache, layer)
        pages[:] = rng.integers(1, 1 << 15, pages.shape)


def bits(cache: KVCache, layer: int) -> np.ndarray:
    """All pages of a layer, read without the code that is tested."""
    pages = cache.pages[layer]
    return np.from_dlpack(pages._create_view(pages.shape, cache.word.name, 0))


def grow(held: CachedSequence, tokens: list[int], phase: int = PREFILLED) -> None:
    held.reserve(len(held) + len(tokens))
    held.extend(tokens, phase)


def slots(cache: KVCache, held: CachedSequence, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """The keys and the values of a sequence's tokens, as bits: (heads, tokens, size) each."""
    spec, size = cache.geometry.own[layer], cache.geometry.page_size
    pages = bits(cache, layer)[held.pages]
    keys, values = np.split(pages, [size * spec.key_size], axis=2)

    def by_token(part: np.ndarray) -> np.ndarray:
        rows = part.reshape(len(pages), spec.kv_heads, size, -1).swapaxes(0, 1)
        return rows.reshape(spec.kv_heads, len(pages) * size, -1)[:, : len(held)]

    return by_token(keys), by_token(values)


class TestTheModel:
    """The toy, whose logits show each bit of its keys and values."""

    @pytest.fixture
    def told(self, load: Loader) -> LoadedModel:
        """A prompt of 20 tokens and 13 generated ones, all but the last of which were fed."""
        model, tokens = load(), ids(33)
        model.feed(tokens[:20])
        for token in tokens[20:32]:
            model.decode(token)
        return model

    NEXT = (ids(45), [range(20, 33)])
    """The next prompt: 12 tokens follow the answer."""

    def test_the_next_logits_are_the_same(
        self, told: LoadedModel, load: Loader, tmp_path: Path
    ) -> None:
        assert told.save(tmp_path / "kv") == 32
        before = told.metrics.prefill.tokens
        expected = told.feed(*self.NEXT).copy()
        steps = told.metrics.prefill.tokens - before
        again = load()
        again.feed(ids(50, seed=7))
        again.reset_metrics()
        assert again.restore(tmp_path / "kv") == 32
        assert again.tokens == tuple(ids(33)[:32])
        np.testing.assert_array_equal(again.feed(*self.NEXT), expected)
        assert again.metrics.prefill.tokens == steps == 13

    def test_there_are_no_logits_before(self, told: LoadedModel, tmp_path: Path) -> None:
        from mlc_llm.errors import GenerationError

        told.save(tmp_path / "kv")
        told.restore(tmp_path / "kv")
        with raises("generation-failed", "logits", error=GenerationError):
            _ = told.logits

    def test_only_what_a_prompt_begins_with(self, told: LoadedModel, tmp_path: Path) -> None:
        """Nothing else gets into the file, and nothing else comes back."""
        path, tokens = tmp_path / "kv", ids(33)
        other = [*tokens[:18], 1 + tokens[18] % 40, 5]
        told.cache.remember(told._sequence)
        assert told.save(path, other) == 18
        with safe_open(path, "np") as file:
            assert file.get_tensor("tokens").tolist() == tokens[:18]
            last = file.get_tensor("pages.1")[-1]
        assert not last[:, 2 * HEAD_DIM : PAGE * HEAD_DIM].any()
        told.reset()
        other = [*tokens[:17], 1 + tokens[17] % 40]
        phases = prompt_phases(18)
        assert told.cache.count(other, phases) == 0
        assert told.restore(path, other) == 17
        assert told.cache.count(other, phases) == 17
        assert told.tokens == ()

    def test_a_prompt_that_begins_otherwise(self, told: LoadedModel, tmp_path: Path) -> None:
        path, before = tmp_path / "kv", told.tokens
        other = [1 + before[0] % 40, *before[1:]]
        assert told.save(path, other) == 0
        assert not path.exists()
        told.save(path)
        told.decode(3)
        assert told.restore(path, other) == 0
        assert told.tokens == (*before, 3)

    def test_tokens_of_another_phase_do_not_count(
        self, told: LoadedModel, load: Loader, tmp_path: Path
    ) -> None:
        """An answer that comes back as a prompt is not what was computed."""
        told.save(tmp_path / "kv")
        assert load().restore(tmp_path / "kv", ids(33)) == 19  # the prompt's last was decoded
        assert load().restore(tmp_path / "kv", ids(33), [range(20, 33)]) == 32

    def test_an_empty_cache(self, load: Loader, tmp_path: Path) -> None:
        assert load().save(tmp_path / "kv") == 0
        assert not (tmp_path / "kv").exists()

    def test_a_damaged_layer_leaves_a_usable_model(self, told: LoadedModel, tmp_path: Path) -> None:
        path = tmp_path / "kv"
        told.save(path)
        expected = told.feed(*self.NEXT).copy()
        data = bytearray(path.read_bytes())
        data[-1000] ^= 1
        path.write_bytes(data)
        with raises("cache-damaged", path, "checksum of 'pages.1'", error=SavedChatError):
            told.restore(path)
        assert told.length == 0
        np.testing.assert_array_equal(told.feed(*self.NEXT), expected)

    def test_it_can_be_stopped(self, told: LoadedModel, tmp_path: Path) -> None:
        from concurrent.futures import CancelledError

        path, stop = tmp_path / "kv", Stop()
        told.save(path)
        before, stopped = path.read_bytes(), told.tokens
        stop.set()
        with pytest.raises(CancelledError):
            told.save(path, stop=stop)
        assert path.read_bytes() == before
        assert told.tokens == stopped
        with pytest.raises(CancelledError):
            told.restore(path, stop=stop)
        assert told.length == 0
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["kv", "model"]

    def test_a_smaller_window(self, told: LoadedModel, load: Loader, tmp_path: Path) -> None:
        told.save(tmp_path / "kv")
        model = load(context_window_size=31)
        model.feed([1, 2])
        with raises("cache-too-long", tmp_path / "kv", 32, 31, error=SavedChatError):
            model.restore(tmp_path / "kv")
        assert model.tokens == (1, 2)
        assert load(context_window_size=32).restore(tmp_path / "kv") == 32

    def test_a_smaller_vocabulary(self, told: LoadedModel, load: Loader, tmp_path: Path) -> None:
        told.save(tmp_path / "kv")
        model = load(active_vocab_size=max(told.tokens))
        with raises("cache-damaged", tmp_path / "kv", max(told.tokens), error=SavedChatError):
            model.restore(tmp_path / "kv")
        assert model.length == 0

    def test_other_weights_and_another_library(
        self, told: LoadedModel, load: Loader, tmp_path: Path
    ) -> None:
        told.save(tmp_path / "kv")
        manifest = tmp_path / "model" / "tensor-cache.json"
        model = load()
        manifest.write_text(manifest.read_text() + "\n")
        with raises("model-changed", manifest, error=SavedChatError):
            model.restore(tmp_path / "kv")
        model = LoadedModel.load(*_parts(model, tmp_path))
        with raises("cache-mismatch", "'model'", "another weights", error=SavedChatError):
            model.restore(tmp_path / "kv")
        library, *rest = _parts(load(), tmp_path)
        other = tmp_path / "other.so"
        other.write_bytes(library.read_bytes().replace(b'"toy"', b'"yot"'))
        model = LoadedModel.load(other, *rest)
        with raises("cache-mismatch", "another library"):
            model.restore(tmp_path / "kv")

    def test_memory_that_is_not_the_hosts(
        self, load: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """There pages are copied, and consecutive ones at once."""
        monkeypatch.setattr("mlc_llm.runtime.kv_cache.on_host", lambda device: False)
        model = load()
        model.cache.pool.take()
        model.feed(ids(40))
        model.save(tmp_path / "kv")
        expected = model.feed(ids(45)).copy()
        copies: list[tuple[int, int, int]] = []
        view = KVCache._view

        def spy(cache: KVCache, *arguments: int) -> Any:
            copies.append(arguments)  # type: ignore[arg-type]
            return view(cache, *arguments)

        monkeypatch.setattr(KVCache, "_view", spy)
        model.restore(tmp_path / "kv")
        assert [count for _, _, count in copies] == [3] * LAYERS
        np.testing.assert_array_equal(model.feed(ids(45)), expected)


def _parts(model: LoadedModel, tmp_path: Path) -> tuple[Any, ...]:
    import tvm

    from mlc_llm.weights.folder import ModelFolder

    return model.library.path, ModelFolder.open(tmp_path / "model"), tvm.cpu(), model.window


class TestSequences:
    """Any sequence of a cache, whichever its pages are."""

    def test_among_others(self, load: Loader, tmp_path: Path) -> None:
        """Several sequences take their pages in turns; one is saved, and comes back elsewhere."""
        model = load()
        functions, shape = model.functions, model.metadata.kv_cache
        cache = KVCache(shape, 96, 64, model.device, sequences=4)
        functions.use(cache)
        held = [cache.add() for _ in range(3)]
        for step in range(3):
            for number, one in enumerate(held):
                functions.prefill([Run(one, ids(15, seed=10 * number + step))])
        assert held[1].pages != [*range(held[1].pages[0], held[1].pages[0] + 3)]
        write_cache_file(tmp_path / "kv", IDENTITY, cache, held[1], 45)
        copy = cache.add()
        grow(copy, ids(70))
        with CacheFile.open(tmp_path / "kv", IDENTITY, shape, 96) as file:
            file.restore(cache, copy, 45)
        assert copy.tokens == held[1].tokens
        assert set(copy.pages).isdisjoint(page for one in held for page in one.pages)
        alone, together = (functions.decode([Run(one, (7,))]).copy() for one in (held[1], copy))
        np.testing.assert_array_equal(together, alone)

    @pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
    @pytest.mark.parametrize("count", [1, 3, 4, 5, 11, 24])
    @pytest.mark.parametrize("on_host", [True, False])
    def test_each_bit_comes_back(
        self,
        tmp_path: Path,
        dtype: str,
        count: int,
        on_host: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("mlc_llm.runtime.kv_cache.on_host", lambda device: on_host)
        shape = geometry(dtype)
        source, target = make_cache(shape), make_cache(shape)
        fill(source)
        fill(target, seed=1)
        saved, other = source.add(), source.add()
        grow(saved, [*range(2)], DECODED)
        grow(other, [5] * 3)
        grow(saved, [*range(2, 24)])
        write_cache_file(tmp_path / "kv", IDENTITY, source, saved, count)
        neighbour, restored = target.add(), target.add()
        grow(neighbour, [9] * 7)
        beside = [slots(target, neighbour, layer) for layer in range(2)]
        with CacheFile.open(tmp_path / "kv", IDENTITY, shape, 24) as file:
            assert (file.tokens, file.phases) == ([*range(count)], bytes(saved.phases[:count]))
            file.restore(target, restored, count)
        assert restored.tokens == [*range(count)]
        assert restored.phases == saved.phases[:count]
        saved.truncate(count)
        for layer in range(2):
            for found, wanted in zip(
                slots(target, restored, layer), slots(source, saved, layer), strict=True
            ):
                np.testing.assert_array_equal(found, wanted)
            for found, wanted in zip(slots(target, neighbour, layer), beside[layer], strict=True):
                np.testing.assert_array_equal(found, wanted)

    def test_without_room(self, tmp_path: Path) -> None:
        from mlc_llm.runtime.page_pool import OutOfPages

        cache = make_cache(geometry(), sequences=2)
        one, two = cache.add(), cache.add()
        grow(one, [1] * 24)
        write_cache_file(tmp_path / "kv", IDENTITY, cache, one, 24)
        taken = [cache.pool.take() for _ in range(3)]
        with (
            CacheFile.open(tmp_path / "kv", IDENTITY, cache.geometry, 24) as file,
            pytest.raises(OutOfPages),
        ):
            file.restore(cache, two, 24)
        assert (len(two), cache.pool.available) == (0, 3)
        assert len(taken) == 3


class TestIdentity:
    def test_it_is_of_the_files_as_they_were(self, tmp_path: Path) -> None:
        files = [tmp_path / "library.so", tmp_path / "manifest.json"]
        for file in files:
            file.write_bytes(file.name.encode())
        made = [ModelFiles("toy", *files) for _ in range(3)]
        digests = [hashlib.sha256(file.name.encode()).hexdigest() for file in files]
        assert made[0].identity == Identity("toy", *digests)
        files[0].write_bytes(b"another one")
        with raises("model-changed", files[0], error=SavedChatError):
            _ = made[1].identity
        files[0].unlink()
        with raises("file-unreadable", files[0], "No such file", error=SavedChatError):
            _ = made[2].identity
        assert made[0].identity == Identity("toy", *digests)  # it is known already


@pytest.fixture
def held(tmp_path: Path) -> tuple[KVCache, CachedSequence]:
    """A sequence of 10 tokens, in pages that are full of something else."""
    cache = make_cache(geometry())
    fill(cache)
    sequence = cache.add()
    grow(sequence, [*range(7)])
    grow(sequence, [*range(7, 10)], DECODED)
    return cache, sequence


class TestTheFile:
    def test_other_tools_can_read_it(
        self, tmp_path: Path, held: tuple[KVCache, CachedSequence]
    ) -> None:
        cache, sequence = held
        write_cache_file(tmp_path / "kv", IDENTITY, cache, sequence, 10)
        with safe_open(tmp_path / "kv", "np") as file:
            assert set(file.keys()) == {"tokens", "phases", "checksums", "pages.0", "pages.1"}
            assert file.get_tensor("tokens").dtype == np.int32
            assert file.get_tensor("tokens").tolist() == [*range(10)]
            assert file.get_tensor("phases").tolist() == [0] * 7 + [1] * 3
            for layer in range(2):
                pages = file.get_tensor(f"pages.{layer}")
                assert (pages.dtype, pages.shape) == (np.float32, (3, 2, 40))
                wanted = bits(cache, layer)[sequence.pages]
                np.testing.assert_array_equal(pages[:2].view(np.uint32), wanted[:2])
            metadata = file.metadata()
        layout = metadata.pop("layout")
        assert json.loads(layout) == {"dtype": "float32", "page_size": 4, "layers": [[2, 6, 4]] * 2}
        assert metadata == {
            "format": "mlc_llm KV cache",
            "version": "1",
            "project": "mlc-llm 0.1.0",
            "model": "toy",
            "library": "a" * 64,
            "weights": "b" * 64,
        }

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_tensors_are_aligned(self, tmp_path: Path, dtype: str) -> None:
        """As safetensors demands it of those whose bytes are used where they stand."""
        cache = make_cache(geometry(dtype, key=3, value=2))
        sequence = cache.add()
        grow(sequence, [1] * 7)
        write_cache_file(tmp_path / "kv", IDENTITY, cache, sequence, 7)
        header, begin = parse((tmp_path / "kv").read_bytes())
        sizes = {"I32": 4, "U32": 4, "F32": 4, "BF16": 2, "U8": 1}
        for name, entry in header.items():
            if name != "__metadata__":
                assert (begin + entry["data_offsets"][0]) % sizes[entry["dtype"]] == 0, name

    @pytest.mark.parametrize("count", [1, 4, 6, 8, 9])
    def test_slots_without_a_token_are_zero(
        self, tmp_path: Path, held: tuple[KVCache, CachedSequence], count: int
    ) -> None:
        """They may hold another's conversation."""
        cache, sequence = held
        write_cache_file(tmp_path / "kv", IDENTITY, cache, sequence, count)
        used = (count - 1) % 4 + 1
        with safe_open(tmp_path / "kv", "np") as file:
            for layer in range(2):
                last = file.get_tensor(f"pages.{layer}")[-1].view(np.uint32)
                for part, size in ((last[:, :24], 6), (last[:, 24:], 4)):
                    rows = part.reshape(2, 4, size)
                    assert rows[:, :used].all()
                    assert not rows[:, used:].any()
        for layer in range(2):
            assert all(part.all() for part in slots(cache, sequence, layer))

    def test_one_layer_at_a_time(self, tmp_path: Path) -> None:
        """Neither writing nor reading takes the memory of two of its eight layers."""
        one = LayerAttention(query_heads=8, kv_heads=8, key_size=64, value_size=64)
        shape = KVCacheGeometry(dtype="float32", page_size=16, layers=[one] * 8)
        cache = make_cache(shape, sequences=1, length=512)
        sequence = cache.add()
        grow(sequence, [1] * 512)
        layer_bytes = 512 * 8 * 128 * 4

        def peak(work: Callable[[], None]) -> int:
            tracemalloc.start()
            try:
                work()
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        def read() -> None:
            with CacheFile.open(tmp_path / "kv", IDENTITY, shape, 512) as file:
                file.restore(cache, sequence, 512)

        writes = peak(lambda: write_cache_file(tmp_path / "kv", IDENTITY, cache, sequence, 512))
        assert layer_bytes <= writes < 1.5 * layer_bytes
        # Where memory is the host's, pages are written in their places.
        assert layer_bytes <= peak(read) < 1.5 * layer_bytes

    @pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
    def test_is_for_its_user_alone(
        self, tmp_path: Path, held: tuple[KVCache, CachedSequence]
    ) -> None:
        write_cache_file(tmp_path / "kv", IDENTITY, *held, 10)
        # The tokens of a conversation can be read as well as its messages.
        assert (tmp_path / "kv").stat().st_mode & 0o777 == 0o600

    def test_a_broken_off_write_leaves_the_old_file(
        self,
        tmp_path: Path,
        held: tuple[KVCache, CachedSequence],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        cache, sequence = held
        path = tmp_path / "kv"
        write_cache_file(path, IDENTITY, cache, sequence, 10)
        before, read = path.read_bytes(), cache.read_pages

        def break_off(layer: int, numbers: Any) -> Any:
            if layer == 1:
                assert len([*tmp_path.iterdir()]) == 2
                raise KeyboardInterrupt
            return read(layer, numbers)

        monkeypatch.setattr(cache, "read_pages", break_off)
        with pytest.raises(KeyboardInterrupt):
            write_cache_file(path, IDENTITY, cache, sequence, 9)
        assert path.read_bytes() == before
        assert [*tmp_path.iterdir()] == [path]

    def test_a_place_that_cannot_be(
        self, tmp_path: Path, held: tuple[KVCache, CachedSequence]
    ) -> None:
        with raises("file-unwritable", tmp_path / "absent" / "kv", "No such file"):
            write_cache_file(tmp_path / "absent" / "kv", IDENTITY, *held, 10)
        with raises("file-unwritable", tmp_path, "Is a directory", error=SavedChatError):
            write_cache_file(tmp_path, IDENTITY, *held, 10)


def parse(data: bytes) -> tuple[dict[str, Any], int]:
    """The header, and where the tensors begin."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), 8 + length


def with_header(data: bytes, header: Any) -> bytes:
    """The file with another header: text, or what becomes JSON."""
    _, begin = parse(data)
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[begin:]


@contextmanager
def opened(path: Path, identity: Identity = IDENTITY, **shape: Any) -> Iterator[CacheFile]:
    with CacheFile.open(path, identity, geometry(**shape), 24) as file:
        yield file


class TestRefusals:
    @pytest.fixture
    def path(self, tmp_path: Path, held: tuple[KVCache, CachedSequence]) -> Path:
        write_cache_file(tmp_path / "kv", IDENTITY, *held, 10)
        return tmp_path / "kv"

    def refused(self, path: Path, code: str, *parts: str | int, **more: Any) -> None:
        with raises(code, path, *parts, error=SavedChatError), opened(path, **more):
            raise AssertionError("it was opened")

    @pytest.mark.parametrize(
        ("identity", "differing"),
        [
            (Identity("toy", "c" * 64, "b" * 64), "library"),
            (Identity("other", "a" * 64, "c" * 64), "weights"),
            (Identity("other", "c" * 64, "c" * 64), "library and weights"),
        ],
    )
    def test_another_model(self, path: Path, identity: Identity, differing: str) -> None:
        parts = ("'toy'", f"'{identity.model}'", f"another {differing}.")
        self.refused(path, "cache-mismatch", *parts, identity=identity)

    @pytest.mark.parametrize("shape", [{"dtype": "float16"}, {"layers": 3}, {"key": 4, "value": 6}])
    def test_another_layout(self, path: Path, shape: dict[str, Any]) -> None:
        self.refused(path, "cache-mismatch", "another layout", **shape)

    @pytest.mark.parametrize("content", [b"", b"\0" * 7, struct.pack("<Q", 1 << 63), b"\xff" * 99])
    def test_other_files(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self.refused(path, "cache-damaged", "no header")

    def test_a_long_header(self, path: Path) -> None:
        data = with_header(path.read_bytes(), b"{" + b" " * (1 << 20) + b"}")
        path.write_bytes(data)
        self.refused(path, "cache-damaged", "no header")

    def test_files_that_cannot_be(self, path: Path) -> None:
        self.refused(path.with_name("absent"), "file-unreadable", "No such file")
        self.refused(path.parent, "file-unreadable")
        self.refused(Path(os.devnull), "file-unreadable")

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            (b"", "JSON"),
            (b"{", "JSON"),
            (b"\xff", "JSON"),
            ('{"tokens": 1}'.encode("utf-16"), "JSON"),
            (b"[" * 99_999, "JSON"),
            (b'{"tokens": 1, "tokens": 1}', "JSON"),
            (b'{"tokens": NaN}', "JSON"),
            (b'{"tokens": 1e999}', "JSON"),
            (b'{"tokens": ' + b"9" * 9999 + b"}", "JSON"),
            (b"[]", "JSON object"),
            (b"{}", "the format"),
            (b'{"__metadata__": 1}', "the format"),
            (b'{"__metadata__": {"format": "pt"}}', "the format"),
        ],
    )
    def test_a_header_that_is_none(self, path: Path, text: bytes, named: str) -> None:
        path.write_bytes(with_header(path.read_bytes(), text))
        self.refused(path, "cache-damaged", named)

    @pytest.mark.parametrize("version", ["2", None, 1, "9" * 999, {"a": []}])
    def test_another_version(self, path: Path, version: Any) -> None:
        header, _ = parse(path.read_bytes())
        header["__metadata__"]["version"] = version
        path.write_bytes(with_header(path.read_bytes(), header))
        self.refused(path, "saved-chat-version", "'1'")

    @pytest.mark.parametrize(
        ("name", "field", "value", "named"),
        [
            ("tokens", None, None, "tokens"),
            ("tokens", None, [], "tokens"),
            ("tokens", "shape", [0], "tokens"),
            ("tokens", "shape", [-10], "tokens"),
            ("tokens", "shape", [True], "tokens"),
            ("tokens", "shape", [1 << 62], "tokens"),
            ("tokens", "shape", [int("9" * 4000)], "tokens"),
            ("tokens", "shape", [10, 1], "tokens"),
            ("tokens", "shape", [9], "tensor 'tokens'"),
            ("tokens", "dtype", "I64", "tensor 'tokens'"),
            ("tokens", "data_offsets", [4, 44], "tensor 'tokens'"),
            ("pages.0", None, None, "tensor 'pages.0'"),
            ("pages.1", "dtype", "F16", "tensor 'pages.1'"),
            ("pages.1", "shape", [3, 40, 2], "tensor 'pages.1'"),
            ("pages.1", "data_offsets", [0, 960], "tensor 'pages.1'"),
            ("pages.1", "data_offsets", [-1, 1 << 99], "tensor 'pages.1'"),
            ("pages.1", "more", 1, "tensor 'pages.1'"),
            ("pages.2", None, {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}, "'pages.2'"),
            ("x" * 9999, None, None, "tensor 'xxx"),
            ("phases", "shape", [11], "tensor 'phases'"),
            ("checksums", "shape", [3], "tensor 'checksums'"),
        ],
    )
    def test_a_header_that_is_wrong(
        self, path: Path, name: str, field: str | None, value: Any, named: str
    ) -> None:
        header, _ = parse(path.read_bytes())
        if field is None:
            header[name] = value
        else:
            header[name][field] = value
        path.write_bytes(with_header(path.read_bytes(), header))
        self.refused(path, "cache-damaged", named)

    @pytest.mark.parametrize("change", [-1, -300, 1])
    def test_another_size(self, path: Path, change: int) -> None:
        data = path.read_bytes()
        path.write_bytes(data[:change] if change < 0 else data + bytes(change))
        self.refused(path, "cache-damaged", len(data) + change, len(data))

    @pytest.mark.parametrize("name", ["tokens", "phases", "checksums", "pages.0", "pages.1"])
    @pytest.mark.parametrize("end", [0, 1])
    def test_one_bit(
        self, path: Path, name: str, end: int, held: tuple[KVCache, CachedSequence]
    ) -> None:
        data = bytearray(path.read_bytes())
        header, begin = parse(data)
        data[begin + header[name]["data_offsets"][end] - end] ^= 1
        path.write_bytes(data)

        def read() -> None:
            with opened(path) as file:
                file.restore(*held, 10)

        with raises("cache-damaged", path, "checksum of '", error=SavedChatError):
            read()

    def test_a_phase_that_is_not_known(
        self, tmp_path: Path, held: tuple[KVCache, CachedSequence]
    ) -> None:
        held[1].phases[3] = 2
        write_cache_file(tmp_path / "kv", IDENTITY, *held, 10)
        self.refused(tmp_path / "kv", "cache-damaged", "phase")

    def test_a_file_that_shrinks_while_it_is_read(
        self, path: Path, held: tuple[KVCache, CachedSequence]
    ) -> None:
        with opened(path) as file:
            os.truncate(path, 700)
            with raises("cache-damaged", path, "cut short"):
                file.restore(*held, 10)
        assert len(held[1]) == 0

    @settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_any_change_is_refused_or_changes_nothing(self, tmp_path: Path, data: Any) -> None:
        path, mutated = tmp_path / "whole", tmp_path / "mutated"
        if not path.exists():
            cache = make_cache(geometry())
            fill(cache)
            sequence = cache.add()
            grow(sequence, [*range(10)])
            write_cache_file(path, IDENTITY, cache, sequence, 10)
        content = path.read_bytes()
        mutated.unlink(missing_ok=True)  # To cut a file to nothing waits for the disk.
        mutated.write_bytes(data.draw(changed(content)))
        target = make_cache(geometry(), sequences=1)
        sequence = target.add()
        try:
            with opened(mutated) as file:
                file.restore(target, sequence, len(file.tokens))
        except SavedChatError as error:
            said = str(error)
            assert (len(sequence), str(mutated) in said, len(said) < 700) == (0, True, True)
            return
        assert sequence.tokens == [*range(10)]
        assert bytes(sequence.phases) == bytes(10)
        _, begin = parse(content)
        for layer in range(2):
            offset = begin + 40 + layer * 960
            assert bits(target, layer)[sequence.pages].tobytes() == content[offset:][:960]


@st.composite
def changed(draw: st.DrawFn, content: bytes) -> bytes:
    """The file with some bytes changed, cut out, put in or swapped; often in the header."""
    data = bytearray(content)
    _, begin = parse(content)
    for _ in range(draw(st.integers(1, 3))):
        where = st.one_of(st.integers(0, begin), st.integers(0, len(content)))
        first, second = sorted((draw(where), draw(where)))
        kind = draw(st.sampled_from(["flip", "digit", "cut", "put", "copy"]))
        if kind == "flip":
            for at in data[first : first + 1] and [first]:
                data[at] ^= draw(st.integers(1, 255))
        elif kind == "digit":
            data[first : first + 1] = draw(st.sampled_from([b"0", b"1", b"9", b"-", b".", b"}"]))
        elif kind == "cut":
            del data[first:second]
        elif kind == "put":
            data[first:first] = draw(st.binary(max_size=20))
        else:
            data[first:first] = data[first:second]
    return bytes(data)


def test_the_toys_pages_are_what_this_file_thinks() -> None:
    assert (KV_HEADS, PAGE, HEAD_DIM) == (2, 16, 16)
