"""Files that mlc_llm keeps for itself. They only save time: damaged ones are passed over."""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path

from fuzz.subject import Case, Subject
from fuzz.subjects.libraries import SPEC, TARGET, library_of, record_of
from fuzz.subjects.manifests import Manifests
from mlc_llm.cache_root import CACHE_VARIABLE
from mlc_llm.cli.chat.history_file import HistoryFile
from mlc_llm.library.cache import DIGEST_SUFFIX, LibraryCache
from mlc_llm.library.jit import JITProvider
from mlc_llm.plugin import LibraryRequest
from mlc_llm.registry import probing
from mlc_llm.registry.probe_cache import ProbeCache
from mlc_llm.registry.registry import Registry
from mlc_llm.testing import registry_of
from mlc_llm.testing.fakes import FakeDevice
from mlc_llm.weights.verified import verify_once


class LibraryCacheFiles(Subject):
    """A library in the cache and its digest: none is taken unless both are as they were."""

    name = "library-cache"
    share = 0.5

    def seeds(self) -> list[Case]:
        folder = Path.cwd() / "published"
        folder.mkdir(exist_ok=True)
        built = folder / "built.so"
        built.write_bytes(library_of(record_of()))
        path = LibraryCache(folder).publish(built, self._provider(folder).key(self._request))
        digest = path.with_name(path.name + DIGEST_SUFFIX)
        return [{file.name: file.read_bytes() for file in (path, digest)}]

    @cached_property
    def _request(self) -> LibraryRequest:
        return LibraryRequest(SPEC, "cpu", TARGET, Path.cwd())

    @staticmethod
    def _provider(folder: Path) -> JITProvider:
        return JITProvider(LibraryCache(folder))

    def feed(self, folder: Path) -> None:
        folder.chmod(0o700)
        for file in folder.iterdir():
            file.chmod(0o600)
        [valid] = self.valid
        given = {file.name: file.read_bytes() for file in folder.iterdir()}
        taken = self._provider(folder).cached(self._request) is not None
        assert taken == (given == valid)


class _Fingerprinted(FakeDevice):
    """A device whose answers are kept."""

    probe_in_process = False

    def fingerprint(self) -> str:
        return "driver 1"


class ProbeAnswers(Subject):
    """What a device answered an earlier process: taken whole, or the device is asked again."""

    name = "probe-cache"
    share = 0.5

    def seeds(self) -> list[Case]:
        cache, answer = self._cache(Path.cwd() / "probed"), FakeDevice("fake").probe()
        cache.save(probing._to_json(answer))
        return [{cache.path.name: cache.path.read_bytes()}]

    @cached_property
    def _registry(self) -> Registry:
        return registry_of(devices={"fake": _Fingerprinted("fake")}, built_in=False)

    def _cache(self, folder: Path) -> ProbeCache:
        registry = self._registry
        return ProbeCache(registry.device("fake"), registry.entry("device", "fake"), 10.0, folder)

    def feed(self, folder: Path) -> None:
        answer = probing._kept(self._cache(folder))
        if answer is not None:
            assert answer.available == bool(answer.adapters)
            json.dumps(probing._to_json(answer))


class VerifiedStamps(Subject):
    """That a download was verified: with a damaged stamp it is verified again."""

    name = "hub-stamp"
    share = 0.5

    def seeds(self) -> list[Case]:
        os.environ[CACHE_VARIABLE] = str(self._stamp.parent.parent)
        verify_once(self._stamp.name, self._model)
        return [{self._stamp.name: self._stamp.read_bytes()}]

    @cached_property
    def _stamp(self) -> Path:
        return Path.cwd() / "cache" / "verified" / "org--name"

    @cached_property
    def _model(self) -> Path:
        folder = Path.cwd() / "downloaded"
        folder.mkdir()
        for name, content in Manifests().seeds()[0].items():
            (folder / name).write_bytes(content)
        return folder

    def feed(self, folder: Path) -> None:
        given = folder / self._stamp.name
        self._stamp.write_bytes(given.read_bytes())
        verify_once(self._stamp.name, self._model)
        assert json.loads(self._stamp.read_bytes()) == json.loads(self.valid[0][self._stamp.name])


class HistoryLines(Subject):
    """What was typed in earlier chats; what is damaged of it is passed over."""

    name = "terminal-history"
    share = 0.3

    def seeds(self) -> list[Case]:
        return [{"history.jsonl": b'"What is 1+1?"\n"a\\nb"\n"\\u00e9"\n'}]

    def feed(self, folder: Path) -> None:
        history = HistoryFile(folder / "history.jsonl")
        before = history.load()
        history.append("next")
        assert history.load()[-1:] == ["next"] or not before
