"""Errors keep their code, wherever they go; a plugin's own need none."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from mlc_llm import errors
from mlc_llm.errors import DeviceError, MLCError
from mlc_llm.testing import raises

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, MLCError)
]


def by_pickle(error: MLCError) -> Any:
    return pickle.loads(pickle.dumps(error))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, by_pickle])
@pytest.mark.parametrize("kind", CLASSES)
def test_a_copy_keeps_code_and_message(
    kind: type[MLCError], copied: Callable[[MLCError], Any]
) -> None:
    plain, coded = copied(kind("No luck.")), copied(kind("No luck.", code="luck-missing"))
    assert type(plain) is type(coded) is kind
    assert (plain.code, coded.code) == (kind.code, "luck-missing")
    assert str(plain) == str(coded) == "No luck."
    assert plain.args == coded.args == ("No luck.",)


def test_each_class_has_a_code_of_its_own() -> None:
    assert len(CLASSES) > 10
    assert len({kind.code for kind in CLASSES}) == len(CLASSES)


def test_a_class_of_a_plugin_has_its_parents_code() -> None:
    class Melted(DeviceError):
        def __init__(self, degrees: int) -> None:
            Exception.__init__(self, f"The device has {degrees} degrees.")

    assert (Melted(900).code, str(Melted(900))) == (DeviceError.code, "The device has 900 degrees.")


def test_values_and_files_are_pythons_own_too() -> None:
    with pytest.raises(ValueError, match="No luck"):
        raise errors.ConfigError("No luck", code="luck-missing")
    with pytest.raises(FileNotFoundError, match="No luck"):
        raise errors.ModelNotFoundError("No luck", code="luck-missing")


class TestRaises:
    def fail(self) -> None:
        raise DeviceError("The device 'npu' has 128 MiB. Run: npu --reset", code="memory-too-small")

    def test_code_and_values(self) -> None:
        with raises("memory-too-small", "'npu'", 128, "npu --reset", error=DeviceError) as caught:
            self.fail()
        assert caught.type is DeviceError

    @pytest.mark.parametrize(
        ("code", "parts", "told"),
        [
            ("memory-too-large", (), "the code is 'memory-too-small', not 'memory-too-large'"),
            ("memory-too-small", ("npu", "cpu"), "the message lacks 'cpu': The device"),
            ("memory-too-small", (12,), "the message lacks 12"),
            ("memory-too-small", (28,), "the message lacks 28"),
        ],
    )
    def test_another_code_or_value_fails(
        self, code: str, parts: tuple[str | int, ...], told: str
    ) -> None:
        with pytest.raises(pytest.fail.Exception, match=told), raises(code, *parts):
            self.fail()

    def test_no_error_and_another_class_fail(self) -> None:
        with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"), raises("error"):
            pass
        with (
            pytest.raises(DeviceError),
            raises("memory-too-small", error=errors.LibraryError),
        ):
            self.fail()
        with pytest.raises(KeyError), raises("error"):
            raise KeyError
