"""What happens to the output folder when a conversion fails, is stopped, killed or repeated."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlc_llm.convert import convert_weight, gen_config
from mlc_llm.convert.output import open_output, require_room
from mlc_llm.errors import ConversionError
from mlc_llm.testing import raises
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.shard_writer import ShardWriter

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and limits")


def run(code, *arguments, **options):
    """Start a child process that runs ``code``."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    )


@pytest.fixture
def good(checkpoint, tmp_path):
    """A folder with a complete q0f32 model."""
    from mlc_llm.weights.manifest import MANIFEST_FILE

    output = tmp_path / "output"
    convert_weight(checkpoint.folder, "q0f32", output)
    assert (output / MANIFEST_FILE).is_file()
    return output


def test_leaves_only_what_belongs_there(good):
    assert {path.name for path in good.iterdir()} == {"tensor-cache.json", "params_shard_0.bin"}


def test_converting_again_replaces_the_weights(checkpoint, good, content, caplog):
    gen = checkpoint.folder
    for quantization in ("q4f16_1", "q0f16", "q4f16_1"):
        convert_weight(gen, quantization, good)
        data = json.loads((good / "tensor-cache.json").read_text())
        shards = {shard["dataPath"] for shard in data["records"]}
        assert set(content(good)) == {"tensor-cache.json", *shards}
        dtypes = {record["dtype"] for shard in data["records"] for record in shard["records"]}
        assert dtypes == ({"float16"} if quantization == "q0f16" else {"float16", "uint32"})
    assert not caplog.records


def test_replaces_an_older_manifest(checkpoint, good):
    (good / "tensor-cache.json").rename(good / "ndarray-cache.json")
    (good / "notes.bin").write_bytes(b"not ours")
    convert_weight(checkpoint.folder, "q4f16_1", good)
    assert not (good / "ndarray-cache.json").exists()
    assert not (good / "params_shard_0.bin").exists()
    assert (good / "notes.bin").exists()


def test_warns_when_the_configuration_is_for_other_weights(checkpoint, good, caplog):
    (good / "mlc-chat-config.json").write_text('{"quantization": "q0f32"}')
    convert_weight(checkpoint.folder, "q0f32", good)
    assert not caplog.records
    convert_weight(checkpoint.folder, "q4f16_1", good)
    assert "run gen_config again" in caplog.text


def test_a_mapped_model_stays_readable(checkpoint, good, make_byte_tokenizer):
    make_byte_tokenizer(checkpoint)
    gen_config(checkpoint.folder, "q0f32", "LM", good)
    folder = ModelFolder.open(good)
    before = folder.read("lm_head.weight")
    checkpoint.tensors["lm_head.weight"] *= 2
    convert_weight(checkpoint.save(), "q0f32", good)
    np.testing.assert_array_equal(2 * before, checkpoint.tensors["lm_head.weight"])


def test_the_source_may_be_the_output(checkpoint, content, make_byte_tokenizer):
    make_byte_tokenizer(checkpoint)
    before = content(checkpoint.folder)
    convert_weight(checkpoint.folder, "q0f32", checkpoint.folder)
    gen_config(checkpoint.folder, "q0f32", "LM", checkpoint.folder)
    ModelFolder.open(checkpoint.folder).verify()
    after = content(checkpoint.folder)
    assert {name: after[name] for name in before} == before


def test_a_failure_keeps_the_old_weights(checkpoint, good, content):
    before = content(good)
    checkpoint.tensors["lm_head.weight"][-1, -1] = np.nan  # the last tensor
    with raises("weight-not-finite", "lm_head.weight"):
        convert_weight(checkpoint.save(), "q4f16_1", good)
    assert content(good) == before


class Stop(BaseException):
    """Stands for Ctrl-C or anything else that may come at any moment."""


@pytest.mark.parametrize("exception", [KeyboardInterrupt, Stop, MemoryError])
def test_stopped_between_tensors(checkpoint, good, content, tmp_path, monkeypatch, exception):
    before = content(good)
    add, calls = ShardWriter.add, []

    def stop(self, *arguments):
        calls.append(arguments)
        if len(calls) % 5 == 0:
            raise exception
        add(self, *arguments)

    monkeypatch.setattr(ShardWriter, "add", stop)
    for output in (good, tmp_path / "new" / "output"):
        with pytest.raises(exception):
            convert_weight(checkpoint.folder, "q4f16_1", output)
    assert content(good) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_stopped_while_the_manifest_is_switched(checkpoint, good, content, monkeypatch, moment):
    """There are the old weights or the new ones, whole, and nothing else of the others' tensors."""
    import mlc_llm.convert.output as output

    before, write = content(good), output.write_atomically

    def stop(path, data):
        if moment == "after":
            write(path, data)
        raise Stop

    monkeypatch.setattr(output, "write_atomically", stop)
    with pytest.raises(Stop):
        convert_weight(checkpoint.folder, "q4f16_1", good)
    monkeypatch.undo()
    if moment == "before":
        assert content(good) == before
    data = json.loads((good / "tensor-cache.json").read_text())
    for shard in data["records"]:
        assert (good / shard["dataPath"]).stat().st_size == shard["nbytes"]
    convert_weight(checkpoint.folder, "q4f16_1", good)
    assert len(content(good)) == 2


HOLD = """
import os, sys
from pathlib import Path
from mlc_llm.convert.output import open_output
with open_output(Path(sys.argv[1])) as output:
    (output.staging / "params_shard_0.bin").write_bytes(b"half")
    (output.folder / "params_shard_7.bin").write_bytes(b"half")
    print("held", flush=True)
    sys.stdin.read()
"""


@posix
def test_two_conversions_and_a_killed_one(checkpoint, good, content):
    before = content(good)
    child = run(HOLD, good)
    try:
        assert child.stdout.readline() == "held\n"
        with raises("output-busy", good, error=ConversionError):
            convert_weight(checkpoint.folder, "q4f16_1", good)
        during = {path.name: path.read_bytes() for path in good.iterdir() if path.is_file()}
        assert {name: during[name] for name in before} == before
    finally:
        child.kill()
        child.communicate()
    # The killed conversion's lock is gone with it, and its leavings are cleared away.
    convert_weight(checkpoint.folder, "q4f16_1", good)
    assert len(content(good)) == 2


def test_two_conversions_in_one_process(checkpoint, tmp_path):
    with open_output(tmp_path / "output") as output:
        with raises("output-busy", tmp_path / "output"):
            convert_weight(checkpoint.folder, "q4f16_1", tmp_path / "output")
        assert output.staging.is_dir()
    assert not (tmp_path / "output").exists()


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from mlc_llm.convert import convert_weight
from mlc_llm.weights.shard_writer import ShardWriter
add = ShardWriter.add
def announce(self, name, *arguments):
    add(self, name, *arguments)
    if name == "model.norm.weight":
        print("converting", flush=True)
        sys.stdin.read()
ShardWriter.add = announce
try:
    convert_weight(sys.argv[1], "q4f16_1", sys.argv[2])
except KeyboardInterrupt:
    print("interrupted")
"""


@posix
def test_ctrl_c(checkpoint, tmp_path):
    child = run(INTERRUPTED, checkpoint.folder, tmp_path / "output")
    try:
        assert child.stdout.readline() == "converting\n"
        assert (tmp_path / "output").exists()
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "interrupted\n"
    finally:
        child.communicate()
    assert not (tmp_path / "output").exists()


LIMITED = """
import resource, sys
from mlc_llm.convert import convert_weight
from mlc_llm.errors import ConversionError
import tvm.relax.frontend.nn
resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))
for output in sys.argv[2:]:
    try:
        convert_weight(sys.argv[1], "q4f32_1", output)
    except ConversionError as error:
        print(error)
"""


@posix
def test_a_file_cannot_be_written_to_its_end(checkpoint, good, content, tmp_path):
    """As on a full disk: writing fails in the middle of a shard."""
    before = content(good)
    outputs = (good, tmp_path / "new" / "output")
    said, _ = run(LIMITED, checkpoint.folder, *outputs).communicate(timeout=120)
    assert said == "".join(f"Writing to {path} failed: File too large.\n" for path in outputs)
    assert content(good) == before
    assert not (tmp_path / "new").exists()


FULL = """
import sys
from pathlib import Path
from mlc_llm.convert import convert_weight
from mlc_llm.errors import ConversionError
source, disk = sys.argv[1], Path(sys.argv[2])
def content():
    return {path.name: path.read_bytes() for path in disk.iterdir()}
convert_weight(source, "q4f16_1", disk)
before = content()
try:
    convert_weight(source, "q0f32", disk)
except ConversionError as error:
    print(error)
print(content() == before)
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare, to mount a small disk")
def test_a_full_disk(checkpoint, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    # A mount of the child's own, which goes with it.
    mount = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    script = 'mount -t tmpfs -o size=128k tmpfs "$1" || exit 77; exec "$0" -c "$2" "$3" "$1"'
    done = subprocess.run(
        [*mount, script, sys.executable, disk, FULL, checkpoint.folder],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 77 or done.stderr.startswith("unshare"):
        pytest.skip(f"cannot mount a small disk here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    error, unchanged = done.stdout.splitlines()
    assert re.search(rf"The disk of {disk} is full|disk of {disk} has .* KiB left", error)
    assert unchanged == "True"


def test_a_disk_without_room(tmp_path):
    with raises("disk-full", tmp_path, "4.295e+09 GiB"):
        require_room(tmp_path, 1 << 62)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_no_space_is_said_plainly(tmp_path):
    """The error of the operating system, from the device that is always full."""
    full = Path("/dev/full")
    with (
        raises("disk-full", tmp_path / "output", error=ConversionError),
        open_output(tmp_path / "output"),
        full.open("wb", buffering=0) as file,
    ):
        file.write(b"x")
    assert not (tmp_path / "output").exists()


def test_the_output_is_a_file(checkpoint, tmp_path):
    (tmp_path / "file").write_text("precious")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with raises("file-unwritable", tmp_path / "file", error=ConversionError):
            convert_weight(checkpoint.folder, "q4f16_1", output)
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="needs a user who may not write everywhere"
)
def test_the_output_cannot_be_written(checkpoint, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with raises("file-unwritable", "Permission denied"):
        convert_weight(checkpoint.folder, "q4f16_1", tmp_path / "locked" / "out")
