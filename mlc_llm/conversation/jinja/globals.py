"""The functions that chat templates may call, as transformers gives them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

from jinja2.exceptions import SecurityError
from jinja2.sandbox import safe_range
from jinja2.utils import Cycler, Joiner, Namespace

from mlc_llm.errors import TemplateError
from mlc_llm.shown import shown

_LONGEST_DATE = 256


class ChatNamespace(Namespace):
    """``namespace(a=1)``: what a loop can change that stands outside it."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        values = dict(*args, **kwargs)
        for name in values:
            _check_name(name)
        super().__init__(values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


def globals_of_templates() -> dict[str, Callable[..., Any]]:
    """The functions, by name."""
    return {
        "cycler": Cycler,
        "dict": make_dict,
        "joiner": Joiner,
        "namespace": ChatNamespace,
        "raise_exception": raise_exception,
        "range": safe_range,
        "strftime_now": strftime_now,
    }


def make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    """``dict(a=1)``."""
    return dict(*args, **kwargs)


def raise_exception(message: Any) -> NoReturn:
    """Refuse the messages, as a template does that wants users and assistants to take turns.

    Raises:
        TemplateError: always, with the template's reason.
    """
    reason = str(message) if isinstance(message, str) and len(message) <= 500 else shown(message)
    raise TemplateError(
        f"The model's chat template refuses these messages: {reason}", code="template-refused"
    )


def strftime_now(format: str) -> str:
    """The date or the time, in the form of ``strftime``."""
    if len(format) > _LONGEST_DATE:
        raise ValueError(f"a date has a form of at most {_LONGEST_DATE} characters")
    return datetime.now().strftime(format)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot have an attribute named {name!r}")
