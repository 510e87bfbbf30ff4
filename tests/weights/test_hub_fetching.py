"""Fetching from a hub on loopback: revisions, closed models, GGUF files, cut connections."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .loopback_hub import COMMIT, TOKEN, Hub, Repository, running

OLD = "f" * 40
PETABYTE = 10**15
FOLDER = {
    "config.json": b'{"model_type": "llama", "max_position_embeddings": 2048}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"new weights",
}
QUICK = {"HF_HUB_ETAG_TIMEOUT": "2", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
"""How long the client waits for a hub that is silent, in seconds."""


@pytest.fixture
def hub():
    with running(Hub(dict(FOLDER))) as server:
        yield server


def add(hub: Hub, name: str, *files: str, **fields: Any) -> Repository:
    """Give the hub a repository of files that each have their name as content."""
    repository = Repository({file: file.encode() for file in files}, **fields)
    hub.repositories[name] = repository
    return repository


class TestRevisions:
    def test_branches_tags_and_commits(self, hub, fetch):
        repository = hub.repositories["org/model"]
        repository.older[OLD] = FOLDER | {"model.safetensors": b"old weights"}
        repository.refs |= {"v1": OLD, "refs/pr/1": OLD}
        revisions = ["", "@v1", f"@{OLD}", "@refs/pr/1", "@main", f"@{COMMIT}"]
        found = fetch(hub.url, *(f"HF://org/model{revision}" for revision in revisions))
        weights = [(Path(one["path"]) / "model.safetensors").read_bytes() for one in found]
        assert weights == [b"new weights", *[b"old weights"] * 3, *[b"new weights"] * 2]
        assert len(hub.asked("model.safetensors")) == 2
        # Offline, each revision is found as it was.
        assert fetch(hub.url, "HF://org/model@v1", HF_HUB_OFFLINE="1") == [found[1]]

    def test_of_a_new_commit_only_what_changed_is_downloaded(self, hub, fetch):
        repository = hub.repositories["org/model"]
        repository.older[OLD], repository.refs["main"] = dict(FOLDER), OLD
        repository.commit = lambda revision: OLD  # the main branch, for now
        before = Path(fetch(hub.url, "HF://org/model")[0]["path"])
        del repository.commit
        repository.files["tokenizer.json"] = b'{"new": 1}'
        after = Path(fetch(hub.url, "HF://org/model")[0]["path"])
        assert (before.name, after.name) == (OLD, COMMIT)
        assert (after / "tokenizer.json").read_bytes() == b'{"new": 1}'
        assert (after / "model.safetensors").read_bytes() == b"new weights"
        assert len(hub.asked("tokenizer.json")) == 2
        assert len(hub.asked("model.safetensors")) == 1


class TestClosed:
    def test_gated_and_private_models(self, hub, fetch):
        add(hub, "org/asks", *FOLDER, gated=True)
        add(hub, "org/secret", *FOLDER, private=True)
        models = ["HF://org/asks", "HF://org/secret"]
        asks, secret = fetch(hub.url, *models)
        assert (asks["code"], secret["code"]) == ("repository-gated", "repository-not-found")
        assert f"{hub.url}/org/asks" in asks["error"]
        assert "HF_TOKEN" in secret["error"]
        # A gated repository is described to everyone: its weights were not asked for.
        assert not hub.asked("model.safetensors")
        assert all("path" in found for found in fetch(hub.url, *models, HF_TOKEN=TOKEN))

    def test_a_token_that_was_withdrawn_leaves_what_is_cached(self, hub, fetch):
        add(hub, "org/secret", *FOLDER, private=True)
        found = fetch(hub.url, "HF://org/secret", HF_TOKEN=TOKEN)
        assert fetch(hub.url, "HF://org/secret") == found
        assert "in vain" in fetch.said


class TestGGUF:
    NAMES = ("m-Q2_K.gguf", "m-Q4_0.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-m-F16.gguf")

    def test_which_file_is_taken(self, hub, fetch):
        add(hub, "org/all", *self.NAMES, "README.md", "config.json", gguf={"context_length": 8192})
        add(hub, "org/large", *self.NAMES, claimed={"m-Q4_K_M.gguf": PETABYTE})
        huge = dict.fromkeys(self.NAMES, PETABYTE)
        add(hub, "org/huge", *self.NAMES, claimed=huge | {"m-Q4_0.gguf": 10**13})
        add(hub, "org/both", *self.NAMES, *FOLDER)
        log: list[str] = []
        names = ("all", "large", "huge", "both")
        found = fetch(hub.url, *(f"HF://org/{name}" for name in names), log=log)
        first, fits, huge, both = found
        assert Path(first["path"]).read_bytes() == b"m-Q4_K_M.gguf"
        assert Path(fits["path"]).read_bytes() == b"m-Q4_0.gguf"
        assert huge["code"] == "model-too-large"
        assert "The weights of HF://org/huge take at least 10.0 TB" in huge["error"]
        assert Path(both["path"]).is_dir()
        assert (Path(both["path"]) / "model.safetensors").read_bytes() == b"model.safetensors"
        assert sorted(name for name in self.NAMES if hub.asked(name)) == [
            "m-Q4_0.gguf",
            "m-Q4_K_M.gguf",
        ]
        assert "org/all has 4 GGUF files; m-Q4_K_M.gguf (13 B) is taken" in log[0]
        assert "m-Q8_0.gguf (11 B)" in log[0]
        assert "context 8192 tokens" in log[0]

    def test_one_file_and_parts_of_one(self, hub, fetch):
        parts = [f"big/m-Q8_0-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
        repository = add(hub, "org/gguf", *self.NAMES, *parts, "other/m-F16-00001-of-00002.gguf")
        repository.older[OLD], repository.refs["v1"] = {"m-Q8_0.gguf": b"older"}, OLD
        one, older, whole, absent, half = fetch(
            hub.url,
            "HF://org/gguf/m-Q8_0.gguf",
            "https://huggingface.co/org/gguf/blob/v1/m-Q8_0.gguf",
            f"HF://org/gguf/{parts[0]}",
            "HF://org/gguf/m-Q5_0.gguf",
            "HF://org/gguf/other/m-F16-00001-of-00002.gguf",
        )
        assert Path(one["path"]).read_bytes() == b"m-Q8_0.gguf"
        assert Path(older["path"]).read_bytes() == b"older"
        assert whole["path"].endswith(parts[0])
        folder = Path(whole["path"]).parent
        assert sorted(f"big/{path.name}" for path in folder.iterdir()) == parts
        assert (absent["code"], half["code"]) == ("repository-file-unknown",) * 2
        assert "m-Q4_K_M.gguf" in absent["error"]
        # Without the hub: what was fetched, and of a repository what would be taken of that.
        again, any_of_it, other = fetch(
            hub.url,
            "HF://org/gguf/m-Q8_0.gguf",
            "HF://org/gguf",
            "HF://org/gguf/m-Q4_0.gguf",
            HF_HUB_OFFLINE="1",
        )
        assert again == one
        assert any_of_it["path"] in (one["path"], whole["path"])
        assert other["code"] == "model-not-cached"

    def test_names_that_lead_out_of_a_repository(self, hub, fetch):
        odd = (
            "../m-Q4_K_M.gguf",
            "/etc/m-Q4_K_M.gguf",
            "a/../../m-Q4_K_M.gguf",
            "a\\m-Q4_K_M.gguf",
        )
        add(hub, "org/odd", *odd, "m-Q8_0.gguf")
        (found,) = fetch(hub.url, "HF://org/odd")
        assert Path(found["path"]).read_bytes() == b"m-Q8_0.gguf"

    def test_a_repository_without_weights(self, hub, fetch):
        add(hub, "org/words", "README.md", "config.json", "m.onnx")
        found = fetch(hub.url, "HF://org/words")[0]
        assert found["code"] == "repository-without-weights"
        assert "m.onnx" in found["error"]


class TestRoom:
    def test_what_does_not_fit_is_refused_before_it_is_downloaded(self, hub, fetch):
        add(hub, "org/vast", *FOLDER, claimed={"model.safetensors": PETABYTE})
        add(hub, "org/wide", "m-Q4_0.gguf", claimed={"m-Q4_0.gguf": PETABYTE})
        models = ("HF://org/vast", "HF://org/wide")
        for found in fetch(hub.url, *models):
            assert found["code"] == "model-too-large"
            assert "mlc_llm pull HF://org/" in found["error"]
        for found in fetch(hub.url, *models, to_run=False):
            assert found["code"] == "disk-full"
            assert "1000.0 TB must be downloaded" in found["error"]
            assert "HF_HOME" in found["error"]
        assert "The weights of HF://org/wide take at least 1000.0 TB" in fetch.said
        assert not hub.asked("model.safetensors")
        assert not hub.asked("m-Q4_0.gguf")

    def test_what_was_begun_counts_as_there(self, hub, fetch, tmp_path):
        add(hub, "org/wide", "m-Q4_0.gguf", claimed={"m-Q4_0.gguf": 10**13})
        blobs = tmp_path / "huggingface" / "hub" / "models--org--wide" / "blobs"
        blobs.mkdir(parents=True)
        with (blobs / "some-etag.incomplete").open("wb") as begun:
            try:
                begun.truncate(10**13)  # which takes no space
            except OSError:
                pytest.skip("this file system has no such large files")
        (found,) = fetch(hub.url, "HF://org/wide", to_run=False)
        assert Path(found["path"]).read_bytes() == b"m-Q4_0.gguf"

    def test_what_is_said_before_a_download(self, hub, fetch):
        log: list[str] = []
        fetch(hub.url, "HF://org/model", log=log)
        assert "HF://org/model: downloading 69 B (weights 11 B, context 2048 tokens)" in log[0]
        log.clear()
        fetch(hub.url, "HF://org/model", log=log)
        assert "downloading" not in log[0]


class TestCuts:
    def test_a_large_file_from_elsewhere_is_resumed(self, hub, fetch):
        name, data = "m-Q4_0.gguf", os.urandom(24 << 20)
        hub.repositories["org/cdn"] = Repository({name: data})
        hub.on_cdn.add(name)
        hub.cut.add(name)
        found = fetch(hub.url, "HF://org/cdn")[0]
        if "error" in found:  # a client that leaves trying again to the user
            found = fetch(hub.url, "HF://org/cdn")[0]
        assert Path(found["path"]).read_bytes() == data
        first, *others = hub.asked(name)
        assert first is None
        assert any(part and part != "bytes=0-" for part in others)

    def test_a_hub_that_falls_silent_in_the_middle(self, hub, fetch):
        hub.stalled.add("model.safetensors")
        begin = time.monotonic()
        error = fetch(hub.url, "HF://org/model", **QUICK)[0]
        assert error["code"] == "download-failed"
        assert "what was fetched is kept" in error["error"]
        assert time.monotonic() - begin < 60  # the client tries again five times
        hub.stalled.clear()
        found = fetch(hub.url, "HF://org/model")[0]
        assert (Path(found["path"]) / "model.safetensors").read_bytes() == b"new weights"

    def test_a_large_file_that_is_not_answered_for(self, hub, fetch):
        hub.on_cdn.add("model.safetensors")
        hub.silent.add("/cdn/")
        error = fetch(hub.url, "HF://org/model", **QUICK)[0]
        assert error["code"] == "download-failed"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other terminals")
class TestTerminal:
    @pytest.fixture
    def environment(self, hub, tmp_path):
        return {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "huggingface"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "MLC_LLM_CACHE": str(tmp_path / "cache"),
            "NO_PROXY": "127.0.0.1",
            "COLUMNS": "200",
        }

    def test_progress_is_shown_there(self, environment):
        import pty
        import termios

        outer, inner = pty.openpty()
        termios.tcsetwinsize(inner, (40, 160))
        command = [sys.executable, "-m", "mlc_llm", "pull", "HF://org/model"]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=inner, text=True
        ) as child:
            os.close(inner)
            shown = _read_all(outer)
            path, _ = child.communicate()
        assert child.returncode == 0, shown
        assert Path(path.strip(), "model.safetensors").read_bytes() == b"new weights"
        assert re.search(r"Fetching \d+ files: +100%", shown)
        assert "downloading 69 B" in shown

    def test_ctrl_c_ends_a_download_that_does_not_go_on(self, hub, environment):
        hub.stalled.add("model.safetensors")
        command = [sys.executable, "-m", "mlc_llm", "pull", "HF://org/model"]
        with subprocess.Popen(
            command,
            env=environment | {"HF_HUB_DOWNLOAD_TIMEOUT": "600"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
            try:
                assert hub.sent.wait(60)
                child.send_signal(signal.SIGINT)
                _, error = child.communicate(timeout=60)
            finally:
                child.kill()
        assert child.returncode == 130, error
        assert b"Traceback" not in error


def _read_all(terminal: int) -> str:
    """All that is written to a terminal until the last program leaves it."""
    pieces = []
    while True:
        try:
            piece = os.read(terminal, 1 << 16)
        except OSError:  # how Linux says so
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(terminal)
    return b"".join(pieces).decode()
