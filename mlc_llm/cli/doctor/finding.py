"""What a check finds, and how checks are run so that none takes the others down."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mlc_llm.errors import MLCError
from mlc_llm.registry.entry import describe

logger = logging.getLogger("mlc_llm")


REPORT = "Report this with what MLC_LLM_DEBUG=1 shows."
"""The remedy for what ought not to happen."""


class Status(StrEnum):
    """How a checked thing is."""

    OK = "ok"
    ABSENT = "absent"
    """It is not here, and nothing is wrong with that."""
    WARNING = "warning"
    """It works; something about it wants attention."""
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        area: what kind of thing was checked, such as ``"device"``.
        name: which one.
        status: how it is.
        detail: what was found.
        remedy: what to do about it; given for everything that is broken or warned of.
    """

    area: str
    name: str
    status: Status
    detail: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """A named question with any number of findings for an answer."""

    area: str
    run: Callable[[], Iterable[Finding]]


def run_checks(checks: Sequence[Check]) -> list[Finding]:
    """Run checks one after the other; one that raises becomes a finding itself."""
    findings: list[Finding] = []
    for check in checks:
        try:
            # One by one: what was found before it failed stays.
            for finding in check.run():
                findings.append(finding)
        except MLCError as error:
            remedy = "Do what the message says."
            findings.append(Finding(check.area, "check", Status.BROKEN, str(error), remedy))
        except Exception as error:
            logger.debug("The check of %s raised", check.area, exc_info=True)
            findings.append(
                Finding(
                    check.area,
                    "check",
                    Status.BROKEN,
                    f"the check itself failed: {describe(error)}",
                    REPORT,
                )
            )
    return findings
