"""A conversion into the cache that was cut goes on where it was, whatever cut it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import mlc_llm.convert.weight_shards as weight_shards
from mlc_llm.convert import convert_source
from mlc_llm.convert.cached import converted
from mlc_llm.convert.plan import PlannedWeight
from mlc_llm.device.cpu import CPU
from mlc_llm.errors import ConversionError
from mlc_llm.testing import make_checkpoint, raises
from mlc_llm.testing.model_folder import save_tensors
from mlc_llm.weights.journal import JOURNAL_FILE, Journal
from mlc_llm.weights.manifest import ShardRecord
from mlc_llm.weights.partial import sole_maker
from mlc_llm.weights.shard_writer import ShardWriter, _OpenShard
from mlc_llm.weights.stores.converted import converted_models, converted_root
from mlc_llm.weights.stores.removal import plan_removal

SHARD_BYTES = 30_000
FORTNIGHT = 14 * 24 * 3600

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


class Cut(BaseException):
    """Stands for Ctrl-C, or anything else that may come at any moment."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and shards so small that a small model has several."""
    monkeypatch.setenv("MLC_LLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("mlc_llm.weights.shard_writer.SHARD_BYTES", SHARD_BYTES)
    return tmp_path / "cache"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small model in Hugging Face's layout."""
    return make_checkpoint(tmp_path / "tiny")


@pytest.fixture
def at_once(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What a conversion writes that is not cut."""
    with monkeypatch.context() as patch:
        patch.setenv("MLC_LLM_CACHE", str(tmp_path / "other"))
        return content(converted(checkpoint, CPU))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def written(folder: Path) -> dict[str, tuple[int, int]]:
    """Which files the shards are, and when they were written."""
    shards = {path.name: path.stat() for path in folder.glob("params_shard_*")}
    return {name: (status.st_ino, status.st_mtime_ns) for name, status in shards.items()}


def the_partial() -> Path:
    [partial] = converted_root().glob(".*.partial")
    return partial


def complete(partial: Path) -> dict[str, tuple[int, int]]:
    """:func:`written` of the shards that the journal names."""
    names = {shard.file for shard in Journal.read(partial).shards}
    return {name: status for name, status in written(partial).items() if name in names}


def cut_at_shard(number: int, moment: str, patch: pytest.MonkeyPatch) -> None:
    """Have a conversion end at a moment of its writing a shard, counted from those it begins."""
    add, write, begun = Journal.add, _OpenShard.write, set[str]()

    def cutting_add(self: Journal, shard: ShardRecord) -> None:
        if len(begun) < number or moment == "in the middle":
            return add(self, shard)
        if moment == "in the journal":
            add(self, shard)
        if moment == "half a line":
            lines = len((self._folder / JOURNAL_FILE).read_bytes())
            add(self, shard)
            file = self._folder / JOURNAL_FILE
            os.truncate(file, (lines + file.stat().st_size) // 2)
        raise Cut

    def cutting_write(self: _OpenShard, data: bytes | memoryview) -> None:
        begun.add(self.name)
        if moment == "in the middle" and len(begun) == number and data:
            write(self, data[: len(data) // 2])
            raise Cut
        write(self, data)

    patch.setattr(Journal, "add", cutting_add)
    patch.setattr(_OpenShard, "write", cutting_write)


def cut(checkpoint: Path, number: int, moment: str = "in the middle") -> Path:
    """Convert, and be cut; returns the folder that is left."""
    with pytest.MonkeyPatch.context() as patch:
        cut_at_shard(number, moment, patch)
        with pytest.raises(Cut):
            converted(checkpoint, CPU)
    return the_partial()


@pytest.mark.parametrize(
    "moment", ["in the middle", "not in the journal", "half a line", "in the journal"]
)
def test_cut_at_each_shard(checkpoint: Path, at_once: dict[str, bytes], moment: str) -> None:
    """One conversion is cut again and again, each time a shard further."""
    count = sum(name.startswith("params_shard_") for name in at_once)
    assert count > 6
    kept: dict[str, tuple[int, int]] = {}
    for done in range(1, count):
        number = 1 if moment == "in the journal" else 2
        partial = cut(checkpoint, number, moment)
        now = complete(partial)
        assert kept.items() <= now.items()
        assert len(now) == done
        [listed] = converted_models()
        assert (listed.name, listed.path, listed.whole) == ("tiny", partial, False)
        kept = now
    folder = converted(checkpoint, CPU)
    assert content(folder) == at_once
    assert kept.items() <= written(folder).items()
    assert [path.name for path in converted_root().iterdir() if path.is_dir()] == [folder.name]
    [listed] = converted_models()
    assert listed.whole


def test_cut_when_all_is_written(
    checkpoint: Path, at_once: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, manifest and configuration are there; nothing is written twice."""

    def stop(*_: object) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr("mlc_llm.convert.whole._publish", stop)
        with pytest.raises(Cut):
            converted(checkpoint, CPU)
    before = written(the_partial())
    assert set(at_once) < set(content(the_partial()))
    assert not any(model.whole for model in converted_models())
    folder = converted(checkpoint, CPU)
    assert content(folder) == at_once
    assert written(folder) == before


def test_cut_before_the_first_shard(checkpoint: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        cut_at_shard(1, "in the middle", patch)
        with pytest.raises(Cut):
            converted(checkpoint, CPU)
    assert not list(converted_models())
    assert not [path for path in converted_root().iterdir() if path.is_dir()]


def test_what_is_there_is_not_read_again(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = cut(checkpoint, 4)
    there = {t.name for shard in Journal.read(partial).shards for t in shard.tensors}
    read, blocks = set[str](), weight_shards.blocks
    advanced: dict[str, tuple[int, int]] = {}

    def noted(planned: PlannedWeight, *arguments: object) -> Iterator[object]:
        read.update(tensor.name for tensor in planned.tensors)
        yield from blocks(planned, *arguments)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def bar(name: str, total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
        done: list[int] = []
        yield done.append
        advanced[name] = (total, sum(done))

    monkeypatch.setattr(weight_shards, "blocks", noted)
    monkeypatch.setattr(weight_shards, "progress_bar", bar)
    converted(checkpoint, CPU)
    assert there
    assert read
    # Of one weight some tensors may lie in the last shard, and the others in the next.
    assert len(there & read) <= 4
    total, done = advanced["Converting"]
    assert 0 < total == done


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "cut": lambda file: os.truncate(file, 100),
    "missing": lambda file: file.unlink(),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_written_again(
    checkpoint: Path, at_once: dict[str, bytes], damage: str
) -> None:
    partial = cut(checkpoint, 5)
    before = complete(partial)
    DAMAGE[damage](partial / "params_shard_1.bin")
    folder = converted(checkpoint, CPU)
    assert content(folder) == at_once
    kept = written(folder).items() & before.items()
    assert kept == {("params_shard_0.bin", before["params_shard_0.bin"])}


@pytest.mark.parametrize(
    "journal", [b"", b"\0" * 300, b"{}\n", b'{"dataPath": "../x"}\n', b"[" * 10_000, None]
)
def test_a_damaged_journal(
    checkpoint: Path, at_once: dict[str, bytes], journal: bytes | None
) -> None:
    partial = cut(checkpoint, 4)
    if journal is None:
        (partial / JOURNAL_FILE).unlink()
    else:
        (partial / JOURNAL_FILE).write_bytes(journal)
    (partial / "folder").mkdir()
    (partial / "link").symlink_to(checkpoint)
    assert content(converted(checkpoint, CPU)) == at_once
    assert (checkpoint / "config.json").exists()


def test_other_tensors_are_not_taken_over(
    checkpoint: Path, at_once: dict[str, bytes], tmp_path: Path
) -> None:
    """As after an update of a plugin's architecture, whose code is not in the folder's name."""
    partial = cut(checkpoint, 4)
    shutil.rmtree(partial)
    partial.mkdir()
    with ShardWriter(partial, journal=Journal(partial)) as writer:
        writer.add("model.other.weight", (3,), "float32", [np.zeros(3, np.float32)])
        writer.finish({})
    assert Journal.read(partial).shards
    assert content(converted(checkpoint, CPU)) == at_once


def test_a_source_that_changed_begins_at_the_beginning(checkpoint: Path, tmp_path: Path) -> None:
    partial = cut(checkpoint, 4)
    make_checkpoint(checkpoint, seed=1)
    folder = converted(checkpoint, CPU)
    by_hand = content(convert_source(checkpoint, tmp_path / "by-hand"))
    assert by_hand.items() == content(folder).items() - {
        ("source.json", (folder / "source.json").read_bytes())
    }
    assert complete(partial)


def test_bad_values_leave_nothing(checkpoint: Path) -> None:
    """A second try would end the same way."""
    from safetensors.numpy import load_file

    tensors = load_file(checkpoint / "model.safetensors")
    tensors["lm_head.weight"][-1, -1] = np.nan  # the last tensor
    save_tensors(checkpoint / "model.safetensors", tensors)
    with raises("weight-not-finite", "lm_head.weight"):
        converted(checkpoint, CPU)
    assert not [path for path in converted_root().iterdir() if path.is_dir()]


def test_a_conversion_elsewhere_keeps_nothing(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        cut_at_shard(4, "in the middle", patch)
        with pytest.raises(Cut):
            convert_source(checkpoint, tmp_path / "out" / "model")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".model.lock"]


def test_old_ones_are_removed(checkpoint: Path) -> None:
    """Those of other models that no process went on with for two weeks, or works on now."""
    root, own = converted_root(), cut(checkpoint, 3)
    kept = complete(own)
    os.utime(own, (0, 0))
    ages = {"old": FORTNIGHT + 60, "locked": FORTNIGHT + 60, "young": FORTNIGHT - 60}
    for name, age in ages.items():
        partial = root / f".{name}.partial"
        partial.mkdir()
        os.utime(partial, (time.time() - age,) * 2)
    (root / "old").mkdir()
    with sole_maker(root / "locked"):
        folder = converted(checkpoint, CPU)
    assert kept.items() <= written(folder).items()
    left = {path.name for path in root.iterdir() if path.is_dir()}
    assert left == {".locked.partial", ".young.partial", "old", folder.name}


@pytest.mark.parametrize("by", ["name", "path"])
def test_a_model_that_is_not_finished_is_removed(checkpoint: Path, by: str) -> None:
    partial = cut(checkpoint, 4)
    [removal] = plan_removal("tiny" if by == "name" else str(partial))
    folder = partial.with_name(partial.name[1 : -len(".partial")])
    with sole_maker(folder), raises("output-busy", folder, error=ConversionError):
        removal.carry_out()
    assert complete(partial)
    removal.carry_out()
    assert not partial.exists()
    removal.carry_out()


def test_only_what_is_missing_needs_room(
    checkpoint: Path, at_once: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = cut(checkpoint, 4)
    kept = complete(partial)
    total = int(json.loads(at_once["tensor-cache.json"])["metadata"]["ParamBytes"])
    missing = total - Journal.read(partial).nbytes
    usage = shutil.disk_usage(partial)

    def leave(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))

    leave(missing - 1)
    with raises("disk-full", partial, error=ConversionError):
        converted(checkpoint, CPU)
    assert complete(partial) == kept
    leave(missing)
    assert content(converted(checkpoint, CPU)) == at_once


CHILD = f"""
import sys
from pathlib import Path
import mlc_llm.weights.shard_writer as shard_writer
from mlc_llm.convert.cached import converted
from mlc_llm.device.cpu import CPU
from mlc_llm.weights.journal import Journal
shard_writer.SHARD_BYTES = {SHARD_BYTES}
add = Journal.add
def announced(self, shard):
    add(self, shard)
    print("shard", flush=True)
    sys.stdin.readline()
Journal.add = announced
converted(Path(sys.argv[1]), CPU)
"""


@pytest.fixture
def child(checkpoint: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that converts, and waits for a line after each shard."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(checkpoint)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def let_write(child: subprocess.Popen[str], shards: int) -> None:
    """Let a child write some shards; it waits after the last one."""
    assert child.stdin is not None
    assert child.stdout is not None
    for number in range(shards):
        if number:
            child.stdin.write("\n")
            child.stdin.flush()
        assert child.stdout.readline() == "shard\n"


@posix
def test_killed(checkpoint: Path, at_once: dict[str, bytes], child: subprocess.Popen[str]) -> None:
    let_write(child, 3)
    child.kill()
    child.wait()
    kept = complete(the_partial())
    assert len(kept) == 3
    folder = converted(checkpoint, CPU)
    assert content(folder) == at_once
    assert kept.items() <= written(folder).items()


@posix
@pytest.mark.parametrize("killed", [False, True])
def test_two_at_once(
    checkpoint: Path, at_once: dict[str, bytes], child: subprocess.Popen[str], killed: bool
) -> None:
    """One waits for the other, and takes what that has made, whole or not."""
    let_write(child, 3)
    kept = complete(the_partial())
    made: list[Path] = []
    waiting = threading.Thread(target=lambda: made.append(converted(checkpoint, CPU)))
    waiting.start()
    if killed:
        child.kill()
    else:
        child.communicate("\n" * 100)
    waiting.join()
    [folder] = made
    assert content(folder) == at_once
    assert kept.items() <= written(folder).items()


FULL = f"""
import sys
from pathlib import Path
import mlc_llm.weights.shard_writer as shard_writer
from mlc_llm.convert.cached import converted
from mlc_llm.device.cpu import CPU
from mlc_llm.errors import ConversionError
from mlc_llm.weights.journal import Journal
from mlc_llm.weights.stores.converted import converted_root
shard_writer.SHARD_BYTES = {SHARD_BYTES}
disk, add = Path(sys.argv[2]), Journal.add
def filling(self, shard):
    add(self, shard)
    if len(self.shards) == 3:
        try:
            with (disk / "others").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        except OSError:
            pass
Journal.add = filling
def written():
    return {{(p.name, p.stat().st_ino, p.stat().st_mtime_ns) for p in disk.rglob("params_shard_*")}}
for attempt in range(2):  # in the middle, and as there is no room at the beginning
    try:
        converted(Path(sys.argv[1]), CPU)
    except ConversionError as error:
        print(error.code)
kept = written()
(disk / "others").unlink()
folder = converted(Path(sys.argv[1]), CPU)
print(len(kept), kept <= written())
for path in folder.iterdir():
    (Path(sys.argv[3]) / path.name).write_bytes(path.read_bytes())
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare, to mount a small disk")
def test_a_full_disk(checkpoint: Path, at_once: dict[str, bytes], tmp_path: Path) -> None:
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    copy.mkdir()
    # A mount of the child's own, which goes with it.
    mount = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    script = 'mount -t tmpfs -o size=4m tmpfs "$3" || exit 77; exec "$0" -c "$1" "$2" "$3" "$4"'
    done = subprocess.run(
        [*mount, script, sys.executable, FULL, checkpoint, disk, copy],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "MLC_LLM_CACHE": str(disk)},
    )
    if done.returncode == 77 or done.stderr.startswith("unshare"):
        pytest.skip(f"cannot mount a small disk here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["disk-full", "disk-full", "3", "True"]
    assert content(copy) == at_once
