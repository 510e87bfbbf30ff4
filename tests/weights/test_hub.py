"""Fetching model folders from a hub on loopback, with the real client."""

import base64
import json
import os
import re
import socket
import time
from pathlib import Path
from urllib.parse import unquote

import pytest

from mlc_llm.errors import HubError
from mlc_llm.testing import raises
from mlc_llm.weights.hub import HubReference
from mlc_llm.weights.locate import resolve_model
from mlc_llm.weights.verified import verify_once

from .loopback_hub import Hub, running


@pytest.fixture
def hub(model_folder):
    files = {path.name: path.read_bytes() for path in model_folder.iterdir()}
    files["library.so"] = b"native code"
    files["onnx/model.json"] = b"{}"
    with running(Hub(files)) as server:
        yield server


def test_fetch_cache_and_refusals(hub, fetch):
    models = ["HF://org/model", "HF://org/model@nosuchtag", "HF://org/none", "HF://org/gated"]
    found, revision, missing, gated = fetch(hub.url, *models)
    folder = Path(found["path"])
    expected = {name for name in hub.files if name not in ("library.so", "onnx/model.json")}
    assert {path.name for path in folder.iterdir()} == expected
    assert all((folder / name).read_bytes() == hub.files[name] for name in expected)
    told = (revision["code"], missing["code"], gated["code"])
    assert told == ("revision-unknown", "repository-not-found", "repository-gated")
    assert "'nosuchtag'" in revision["error"]
    assert "org/none" in missing["error"]
    assert "HF_TOKEN" in missing["error"]
    assert f"{hub.url}/org/gated" in gated["error"]

    before = len(hub.requests)
    again, by_address = fetch(hub.url, "hf://org/model", "https://huggingface.co/org/model")
    assert again == by_address == found
    assert not any("/resolve/" in path for _, path, _ in hub.requests[before:])

    before = len(hub.requests)
    offline, absent = fetch(hub.url, "HF://org/model", "HF://org/other", HF_HUB_OFFLINE="1")
    assert offline == found
    assert absent["code"] == "model-not-cached"
    assert re.search("HF://org/other .*HF_HUB_OFFLINE", absent["error"])
    assert len(hub.requests) == before


def test_an_interrupted_download_is_resumed(hub, fetch):
    name = "large.txt"
    hub.files[name] = os.urandom(24 << 20)  # more than the client writes at a time
    hub.cut.add(name)
    found = fetch(hub.url, "HF://org/model")[0]
    if "error" in found:  # a client that leaves trying again to the user
        found = fetch(hub.url, "HF://org/model")[0]
    assert (Path(found["path"]) / name).read_bytes() == hub.files[name]
    ranges = [asked for _, path, asked in hub.requests if path.endswith(name) and asked]
    assert any(re.fullmatch(r"bytes=[1-9]\d*-", asked) for asked in ranges)


def test_no_network(fetch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        found = fetch(endpoint, "HF://org/model")[0]
    assert found["code"] == "hub-unreachable"
    assert endpoint in found["error"]


SILENT = {"HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}


@pytest.mark.parametrize("part", ["/api/models/org/model", "/tree/"])
def test_a_hub_that_does_not_answer(hub, fetch, part):
    hub.silent.add(part)
    begin = time.monotonic()
    found = fetch(hub.url, "HF://org/model", **SILENT)[0]
    error = found["error"]
    assert found["code"] == "hub-unreachable"
    assert hub.url in error
    assert "HF://org/model is not" in error
    assert "no answer within 2 seconds" in error or "timed out" in error
    assert time.monotonic() - begin < 25  # most of it the start of Python


def test_a_hub_that_does_not_answer_for_a_model_in_the_cache(hub, fetch):
    found = fetch(hub.url, "HF://org/model")
    assert "in vain" not in fetch.said
    hub.silent.add("/")
    begin = time.monotonic()
    assert fetch(hub.url, "HF://org/model", **SILENT) == found
    assert time.monotonic() - begin < 25
    said = (
        rf"{hub.url} was asked for HF://org/model in vain \(.*\): the files in the cache are used"
    )
    assert re.search(said, fetch.said)


def test_a_socket_that_nobody_reads(fetch):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        error = fetch(endpoint, "HF://org/model", **SILENT)[0]["error"]
    assert f"{endpoint} could not be reached" in error


NO_ADDRESSES = ["http://a:secret/x@b", "http://[::", "http://b:x", "b", ""]


@pytest.mark.parametrize("wrong", NO_ADDRESSES)
def test_an_endpoint_that_is_no_address(monkeypatch, wrong):
    monkeypatch.setenv("HF_ENDPOINT", wrong)
    with raises("hub-settings-invalid", "HF_ENDPOINT", error=HubError) as caught:
        resolve_model("HF://org/model")
    assert "secret" not in str(caught.value)


def test_an_endpoint_that_is_no_address_is_shown_nowhere(fetch):
    """Not by the hub's client either, which prints what it cannot read."""
    log = []
    found = fetch(NO_ADDRESSES[0], "HF://org/model", log=log)[0]
    assert found["code"] == "hub-settings-invalid"
    assert "secret" not in log[0]


@pytest.mark.matrix(secret=["top%40secret:9"])
@pytest.mark.parametrize("secret", ["top-secret", "top@secret", "top%40secret:9"])
def test_credentials_of_the_endpoint_are_sent_and_not_shown(hub, fetch, secret):
    models, log = ["HF://org/model", "HF://org/none", "HF://org/gated"], []
    endpoint = hub.url.replace("://", f"://someone:{secret}@")
    found, missing, gated = fetch(endpoint, *models, log=log)
    assert "path" in found
    sent = base64.b64encode(f"someone:{unquote(secret)}".encode()).decode()
    assert hub.authorizations == {f"Basic {sent}"}
    assert hub.url in missing["error"]
    assert hub.url in gated["error"]
    for wrong in (endpoint + "9999999", endpoint.replace("http", "wrong"), endpoint + " "):
        assert "error" in fetch(wrong, "HF://org/other", log=log)[0]
    assert not any("secret" in text or sent in text for text in log)


@pytest.mark.matrix(token=["hf_topsécret"])
@pytest.mark.parametrize("token", ["hf_top\x1bsecret", "hf_top secret", "hf_topsécret"])
def test_a_token_that_cannot_be_one_is_not_shown(hub, fetch, token):
    log = []
    error = fetch(hub.url, "HF://org/model", log=log, HF_TOKEN=token)[0]["error"]
    assert "The hub's token (HF_TOKEN, or the one of `hf auth login`) holds a character" in error
    assert not hub.requests
    assert not any("secret" in text or "sécret" in text for text in log)


def test_a_token_is_not_shown(hub, fetch):
    log = []
    fetch(hub.url, "HF://org/model", "HF://org/none", log=log, HF_TOKEN="hf_topsecret")
    assert hub.authorizations == {"Bearer hf_topsecret"}
    assert not any("topsecret" in text for text in log)


def _flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    return bytes(data)


def test_verified_once_and_again_when_a_file_has_changed(hub, fetch, tmp_path):
    folder = Path(fetch(hub.url, "HF://org/model")[0]["path"])
    [stamp] = (tmp_path / "cache" / "verified").iterdir()
    written = stamp.stat().st_mtime_ns
    assert "path" in fetch(hub.url, "HF://org/model")[0]
    assert stamp.stat().st_mtime_ns == written  # it was not verified again
    # Fetched again, with an error of a bit.
    blob = (folder / "params_shard_0.bin").resolve()
    data, times = _flip(blob), (blob.stat().st_atime_ns, blob.stat().st_mtime_ns)
    blob.unlink()
    blob.write_bytes(data)
    os.utime(blob, ns=times)
    for _ in range(2):
        error = fetch(hub.url, "HF://org/model")[0]["error"]
        assert re.search(r"HF://org/model.*damaged.*params_shard_0\.bin.*MD5", error)
    blob.write_bytes(_flip(blob))
    assert "path" in fetch(hub.url, "HF://org/model")[0]


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"[]", b"null"])
def test_a_stamp_of_an_older_version_or_a_damaged_one(model_folder, tmp_path, monkeypatch, content):
    monkeypatch.setenv("MLC_LLM_CACHE", str(tmp_path / "cache"))
    verify_once("model", model_folder)
    [stamp] = (tmp_path / "cache" / "verified").iterdir()
    good = stamp.read_bytes()
    stamp.write_bytes(content)
    verify_once("model", model_folder)
    assert stamp.read_bytes() == good


def test_damaged_weights_are_found(hub, fetch):
    manifest = json.loads(hub.files["tensor-cache.json"])
    manifest["records"][0]["md5sum"] = "0" * 32
    hub.files["tensor-cache.json"] = json.dumps(manifest).encode()
    found = fetch(hub.url, "HF://org/model")[0]
    assert found["code"] == "download-damaged"
    assert re.search(r"HF://org/model.*params_shard_0\.bin.*MD5", found["error"])


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("HF://org/name", "org/name", None),
        ("hf://org/na.me-1_x/", "org/na.me-1_x", None),
        ("HF://org/name@v1.0", "org/name", "v1.0"),
        ("HF://org/name@refs/pr/1", "org/name", "refs/pr/1"),
        ("https://huggingface.co/org/name", "org/name", None),
        ("https://huggingface.co/org/name.git", "org/name", None),
        ("https://huggingface.co/org/name/tree/main", "org/name", "main"),
        ("https://hf.co/org/name/tree/refs/pr/1", "org/name", "refs/pr/1"),
    ],
)
def test_references(text, repository, revision):
    assert HubReference.parse(text) == HubReference(repository, revision)


@pytest.mark.parametrize(
    ("text", "file", "revision"),
    [
        ("HF://org/name/m.gguf", "m.gguf", None),
        ("HF://org/name/Q8/m.GGUF", "Q8/m.GGUF", None),
        ("HF://org/name/m.gguf@v1", "m.gguf", "v1"),
        ("HF://org/name/m.gguf@refs/pr/1", "m.gguf", "refs/pr/1"),
        ("HF://org/name@v1/m.gguf", "m.gguf", "v1"),
        ("HF://org/name@refs/pr/1/a/m.gguf", "a/m.gguf", "refs/pr/1"),
        ("https://huggingface.co/org/name/blob/main/a/m.gguf", "a/m.gguf", "main"),
        ("https://huggingface.co/org/name/resolve/v1/m.gguf?download=true", "m.gguf", "v1"),
    ],
)
def test_references_of_files(text, file, revision):
    reference = HubReference.parse(text)
    assert reference == HubReference("org/name", revision, file)
    assert HubReference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text", ["org/name", "dist/model", "/abs/path", "C:\\model", "", "HF:/a/b"]
)
def test_what_is_no_reference(text):
    assert HubReference.parse(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *("HF://", "HF://name", "HF://a/b/c", "HF://../..", "HF://org/na me", "HF://-x/y"),
        *("HF://org/name@a b", "HF://org/name@\0", "HF://org/name@\ud800", "HF://org/name@a/../b"),
        *("HF://org/name/m.bin", "HF://org/name/../m.gguf", "HF://org/name//m.gguf"),
        *("HF://org/name/a.gguf@v1/b.gguf", "HF://org/name/" + "a" * 300 + ".gguf"),
        *("HF://org/" + "a" * 300, "HF://org/name@" + "a" * 300, "HF://org/name@\x1b[31m"),
    ],
)
def test_malformed_references(text):
    with raises("repository-malformed", "HF://org/name", error=HubError) as caught:
        HubReference.parse(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
