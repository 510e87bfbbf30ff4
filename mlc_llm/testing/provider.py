"""Conformance tests for a model-library provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.device.cpu import CPU
from mlc_llm.library.record import check_file
from mlc_llm.model.llama import LLAMA
from mlc_llm.plugin import Device, Found, LibraryRequest, NotFound
from mlc_llm.registry.registry import Registry
from mlc_llm.registry.validation import DEFAULT_ORDER
from mlc_llm.testing.registry import registry_of
from mlc_llm.testing.suite import Suite
from mlc_llm.testing.workbench import Workbench

Change = Callable[[LibraryRequest, Path], LibraryRequest]


def _spec(**changes: Any) -> Change:
    """Ask for another model."""
    return lambda request, _: replace(request, spec=request.spec.model_copy(update=changes))


def _more_layers(request: LibraryRequest, _: Path) -> LibraryRequest:
    layers = request.spec.shape.get("num_hidden_layers", 1) + 1
    shape = {**request.spec.shape, "num_hidden_layers": layers}
    return replace(request, spec=request.spec.model_copy(update={"shape": shape}))


def _another_quantization(request: LibraryRequest, _: Path) -> LibraryRequest:
    plan = request.spec.plan.model_copy(update={"name": "no-such-quantization"})
    return replace(request, spec=request.spec.model_copy(update={"plan": plan}))


def _text_file(request: LibraryRequest, folder: Path) -> LibraryRequest:
    path = folder / "library.so"
    path.write_text("This is not a library.", encoding="utf-8")
    return replace(request, named=path)


FOREIGN: dict[str, Change] = {
    "an unknown architecture": _spec(architecture="no-such-architecture"),
    "an unknown quantization": _another_quantization,
    "an unknown option": _spec(opt="no-such-option=1"),
    "an empty shape": _spec(shape={}),
    "more layers": _more_layers,
    "another target": lambda request, _: replace(request, target={"kind": "c"}),
    "a missing model folder": lambda request, at: replace(request, model_path=at / "nowhere"),
    "a named file that is missing": lambda request, at: replace(request, named=at / "no.so"),
    "a named folder": lambda request, at: replace(request, named=at),
    "a named file that is not a library": _text_file,
}
"""Requests that a provider may have no answer to, made from one that is in order."""


class ProviderConformance(Suite):
    """Tests of a library provider. Subclass it and set :attr:`provider`.

    Override :meth:`served` when there is a request that it is to answer with a library.
    """

    provider: Any
    """The provider: an object with hooks."""

    device: Device = CPU
    """The device that libraries are asked for."""

    @pytest.fixture
    def small(self, workbench: Workbench) -> LibraryRequest:
        """The request for the small model of :func:`~mlc_llm.testing.make_model_folder`."""
        folder = workbench.convert(workbench.checkpoint(), "q0f32", LLAMA)
        return workbench.request(folder, LLAMA, self.device)

    @pytest.fixture
    def served(self) -> LibraryRequest | None:
        """A request that the provider is to answer with a library; None when there is none."""
        return None

    def test_is_accepted(self) -> None:
        """Its hooks have the right signatures, its order and its name are in order."""
        name = _name(self.provider)
        registry = self._registry()
        assert registry.provider(name) is not None
        assert isinstance(getattr(self.provider, "order", DEFAULT_ORDER), int)

    def test_serves(self, served: LibraryRequest | None) -> None:
        """It has a library for the request that it is to serve, and the library fits."""
        if served is None:
            pytest.skip("no request is given that the provider is to serve; override `served`")
        answer = self._ask(served)
        assert isinstance(answer, Found), f"it has no library: {answer}"
        assert self._ask(served) == answer, "it answers the same request differently"

    def test_small_model(self, small: LibraryRequest) -> None:
        """Whatever it answers to an ordinary request is in order."""
        self._ask(small)

    @pytest.mark.parametrize("case", FOREIGN)
    def test_foreign_requests(
        self,
        case: str,
        small: LibraryRequest,
        served: LibraryRequest | None,
        tmp_path: Path,
    ) -> None:
        """It raises for none of them, and offers no library that does not fit."""
        self._ask(FOREIGN[case](served or small, tmp_path))

    def _registry(self) -> Registry:
        return registry_of(
            providers={_name(self.provider): self.provider},
            devices={self.device.name: self.device},
            built_in=False,
        )

    def _ask(self, request: LibraryRequest) -> Found | NotFound | None:
        """The provider's answer, which is checked."""
        registry = self._registry()
        answers = list(registry.ask("mlc_llm_find_library", request=request))
        assert answers, "it has no hook mlc_llm_find_library"
        error, value = answers[0].error, answers[0].value
        assert not error, f"it raised: {error}\n{_traceback(registry)}"
        if isinstance(value, Found):
            self._check_found(value, request)
        elif isinstance(value, NotFound):
            self._check_not_found(value)
        else:
            assert value is None, f"it answered with {value!r}, not Found, NotFound or None"
        return value

    def _check_found(self, found: Found, request: LibraryRequest) -> None:
        path = Path(found.path)
        assert found.provider == _name(self.provider), f"it gives {found.provider!r} as its name"
        if request.named is not None:
            assert path == request.named, f"{request.named} is asked for, and it offers {path}"
        reason = check_file(path, request, self.device)
        assert reason is None, f"it offers {path}, but {reason}"

    def _check_not_found(self, answer: NotFound) -> None:
        assert answer.provider == _name(self.provider), f"it gives {answer.provider!r} as its name"
        for pair in answer.looked_at:
            place, reason = pair
            assert isinstance(place, str), f"what it looked at is not text: {place!r}"
            assert isinstance(reason, str), f"its reason is not text: {reason!r}"
            assert reason, f"it gives no reason for {place!r}"


def _name(provider: Any) -> str:
    return str(getattr(provider, "name", "provider"))


def _traceback(registry: Registry) -> str:
    return "".join(entry.traceback for entry in registry.entries())
