"""The templates: found by their names, valid, and laid out as the models know it."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from pathlib import Path

import mlc_llm_templates
import pytest

from mlc_llm.plugin import ConversationTemplate

GROUP = "mlc_llm.conversation_templates"
NAMES = {
    "LM",
    "chatml",
    "codellama_completion",
    "codellama_instruct",
    "gemma_instruction",
    "llama-2",
    "llama-3",
    "llama-3_1",
    "mistral_default",
    "phi-3",
    "qwen2",
    "redpajama_chat",
    "tinyllama_v1_0",
    "vicuna_v1.1",
    "wizard_coder_or_math",
}


def _entries() -> dict[str, importlib.metadata.EntryPoint]:
    distribution = importlib.metadata.distribution("mlc-llm-templates")
    return {entry.name: entry for entry in distribution.entry_points if entry.group == GROUP}


def _template(name: str) -> ConversationTemplate:
    return ConversationTemplate.from_data(_entries()[name].load(), name)


def test_entry_points_name_every_template() -> None:
    assert set(_entries()) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_template_is_valid_and_says_its_name(name: str) -> None:
    data = _entries()[name].load()
    assert _template(name).name == name
    assert set(data) <= set(ConversationTemplate.model_fields)


def test_modules_import_only_the_standard_library() -> None:
    folder = Path(mlc_llm_templates.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def test_lm_has_no_memory_and_no_system_message() -> None:
    template = _template("LM")
    assert not template.has_memory
    assert template.system_template == template.system_message == ""
    assert template.add_bos
    assert template.stop_token_ids == [2]


def test_those_that_complete_text_have_no_memory() -> None:
    without = {name for name in NAMES if not _template(name).has_memory}
    assert without == {"LM", "codellama_completion"}


def test_llama_2_is_laid_out_as_its_authors_do() -> None:
    template = _template("llama-2")
    system = template.system_template.format(system_message="S")
    assert system == "[INST] <<SYS>>\nS\n<</SYS>>\n\n"
    assert template.roles["user"] + template.role_content_sep == "<s>[INST] "
    assert template.seps == [" ", " </s>"]
    assert not template.add_role_after_system_message


def test_mistral_puts_the_system_message_into_the_first_instruction() -> None:
    template = _template("mistral_default")
    assert template.system_template == "[INST] {system_message}"
    assert template.system_message.startswith("Always assist with care, respect, and truth. ")
    assert template.system_message.endswith("Ensure replies promote fairness and positivity.")
    assert template.roles["assistant"] + template.role_empty_sep == "[/INST]"
