"""``mlc_llm doctor``: checks the installation, and says what to do about what is wrong."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from mlc_llm.cache_root import CACHE_VARIABLE, cache_root
from mlc_llm.cli.doctor.finding import Check, Finding, Status, run_checks
from mlc_llm.cli.output import say
from mlc_llm.cli.table import show_table
from mlc_llm.registry.registry import default_registry


@click.command(name="doctor")
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option("--online", is_flag=True, help="Ask the Hugging Face hub, too.")
@click.pass_context
def command(ctx: click.Context, model: str | None, as_json: bool, online: bool) -> None:
    """Check the installation, and say what to do about what is wrong.

    With MODEL, a model folder or HF://org/name, that model is checked as well: its checksums, its
    tokenizer, its template, and whether its library is compiled. The exit code is 1 when something
    is broken. Without --online there is no network access.
    """
    # What is wrong is in the report.
    logger = logging.getLogger("mlc_llm")
    if logger.level != logging.DEBUG:
        logger.setLevel(logging.CRITICAL)
    findings = run_checks(installation_checks(online) + model_checks(model, online))
    broken = sum(finding.status is Status.BROKEN for finding in findings)
    if as_json:
        listed = [asdict(finding) for finding in findings]
        say(json.dumps({"ok": not broken, "findings": listed}, indent=2))
    else:
        show_table(["what", "which", "status", "found, and what to do"], map(_row, findings))
        say()
        say(f"Broken: {broken}." if broken else "Nothing is broken.")
    ctx.exit(1 if broken else 0)


def installation_checks(online: bool) -> list[Check]:
    """The checks of everything but a model.

    Each imports what it needs when it runs: an installation that lacks a package is what a doctor
    is for. The plugins come before the devices, whose probes add reasons to their plugins.
    """
    return [
        Check("python", lambda: _checks("python").check_python()),
        Check("versions", lambda: _checks("python").check_versions()),
        Check("tvm", lambda: _checks("toolchain").check_tvm()),
        Check("compiler", lambda: _checks("toolchain").check_compiler()),
        Check("plugins", lambda: _checks("plugins").check_plugins(default_registry())),
        Check("devices", lambda: _checks("plugins").check_devices(default_registry())),
        Check("threads", lambda: _checks("python").check_threads()),
        Check("hub", lambda: _checks("hub").check_hub(online)),
        Check("cache", lambda: _checks("storage").check_library_cache(default_registry())),
        Check("disk", lambda: _checks("storage").check_disk(_written_folders())),
    ]


def model_checks(model: str | None, online: bool) -> list[Check]:
    """The check of a model, if one is named."""
    if model is None:
        return []
    return [Check("model", lambda: _checks("model").check_model(model, default_registry(), online))]


def _checks(module: str) -> Any:
    return importlib.import_module(f"mlc_llm.cli.doctor.{module}")


def _written_folders() -> dict[str, Path]:
    """The folders that files are written to, by the environment variable that moves each."""
    folders = {CACHE_VARIABLE: cache_root()}
    with contextlib.suppress(ImportError):
        folders["HF_HOME"] = _checks("hub").hub_folder()
    return folders


def _row(finding: Finding) -> list[str]:
    text = finding.detail
    if finding.remedy:
        text = f"{text.rstrip('. ')}. {finding.remedy}"
    return [finding.area, finding.name, finding.status, text]
