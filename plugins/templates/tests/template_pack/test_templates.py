"""The templates: found by their names, valid, and cheap to load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import mlc_llm_templates
import pytest

from mlc_llm.plugin import ConversationTemplate

from .families import FAMILY, entries, template

OURS = {"mistral_v3", "mistral_v3_tekken", "mistral_v7", "phi-4-mini", "vicuna_v1.1"}
"""Those that MLC's registry does not have."""


def test_entry_points_name_every_template() -> None:
    assert set(entries()) == set(FAMILY)
    assert len(FAMILY) == 53 + len(OURS)


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_template_is_valid_and_says_its_name(name: str) -> None:
    data = entries()[name].load()
    assert template(name).name == name
    assert set(data) <= set(ConversationTemplate.model_fields)


def test_modules_import_only_the_standard_library_and_each_other() -> None:
    folder = Path(mlc_llm_templates.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            allowed = sys.stdlib_module_names | {"mlc_llm_templates"}
            assert {name.partition(".")[0] for name in names} <= allowed


def test_only_the_family_of_a_template_is_loaded() -> None:
    program = (
        "import sys; from mlc_llm_templates.qwen import QWEN3;"
        "print(*sorted(n for n in sys.modules if n.startswith('mlc_llm')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == [
        "mlc_llm_templates",
        "mlc_llm_templates.chatml",
        "mlc_llm_templates.qwen",
    ]


def test_lm_has_no_memory_no_system_message_and_no_token_of_one_vocabulary() -> None:
    lm = template("LM")
    assert not lm.has_memory
    assert lm.system_template == lm.system_message == ""
    assert lm.add_bos
    assert lm.system_prefix_token_ids is None
    assert lm.stop_token_ids == lm.stop_str == []


def test_those_that_complete_text_have_no_memory() -> None:
    without = {name for name in FAMILY if not template(name).has_memory}
    assert without == {"LM", "codellama_completion", "gpt2", "gpt_bigcode"}


def test_no_template_shares_what_it_holds_with_another() -> None:
    """Validation copies: a change of one would be a change of all that are made of its data."""
    first, second = template("qwen2"), template("qwen3")
    first.roles["user"] = "changed"
    assert second.roles["user"] == "<|im_start|>user"
    assert ConversationTemplate.from_data(entries()["qwen2"].load(), "qwen2").roles != first.roles
    template.cache_clear()
