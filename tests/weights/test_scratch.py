"""Work folders, and what killed processes leave of them."""

import os
import signal
import subprocess
import sys

import pytest

from mlc_llm.convert import gen_config
from mlc_llm.testing import make_checkpoint
from mlc_llm.weights.scratch import scratch_folder, sweep

HOLD = """
import sys
from pathlib import Path
from mlc_llm.weights.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_it_is_empty_and_goes(tmp_path):
    with scratch_folder(tmp_path) as one, scratch_folder(tmp_path) as other:
        assert one != other
        (one / "file").write_text("")
        sweep(tmp_path)
        assert (one / "file").exists()
    with pytest.raises(KeyError), scratch_folder(tmp_path):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_a_killed_process(tmp_path):
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=pipe, stdout=pipe, text=True
    )
    try:
        assert child.stdout.readline()
        with scratch_folder(tmp_path):
            assert len(list(tmp_path.iterdir())) == 2
    finally:
        child.kill()
        child.communicate()
    assert len(list(tmp_path.iterdir())) == 1
    with scratch_folder(tmp_path):
        assert len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())


def test_what_is_not_a_work_folder_stays(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / ".mlc-llm-file").write_text("")
    (tmp_path / ".mlc-llm-link").symlink_to("other")
    (tmp_path / ".mlc-llm-new").mkdir()  # its lock may come
    (tmp_path / ".mlc-llm-old").mkdir()
    os.utime(tmp_path / ".mlc-llm-old", (0, 0))
    sweep(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"other", ".mlc-llm-file", ".mlc-llm-link", ".mlc-llm-new"}


KILLED = """
import os, signal, sys
from pathlib import Path
from mlc_llm import convert_weight, gen_config
calls, replace = int(sys.argv[3]), Path.replace
def stop(self, target):
    global calls
    calls -= 1
    if calls < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = stop
convert_weight(sys.argv[1], "q0f32", sys.argv[2])
gen_config(sys.argv[1], "q0f32", "LM", sys.argv[2])
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("calls", range(7))
def test_nothing_stays_of_killed_conversions(tmp_path, calls):
    from mlc_llm.convert import convert_weight

    source, output = make_checkpoint(tmp_path / "source"), tmp_path / "output"
    done = subprocess.run([sys.executable, "-c", KILLED, source, output, str(calls)], check=False)
    assert done.returncode == (-signal.SIGKILL if calls < 6 else 0)
    convert_weight(source, "q0f32", output)
    gen_config(source, "q0f32", "LM", output)
    assert not [path.name for path in output.iterdir() if path.name.startswith(".")]
