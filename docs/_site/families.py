"""Writes the table of families into ``docs/models-and-devices.md``; run it without arguments.

What stands in it is read from the architectures and from their tests; only the names of published
models are written here.
"""

from __future__ import annotations

import ast
import importlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from mlc_llm.plugin import Architecture
from mlc_llm.registry.registry import default_registry
from mlc_llm.testing.families import FAMILIES

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "models-and-devices.md"
TESTS = ROOT / "tests" / "model" / "families"
BEGIN, END = "<!-- families: begin -->", "<!-- families: end -->"

EXAMPLES = {
    "gemma": "Gemma, Gemma 1.1",
    "gemma2": "Gemma 2",
    "gemma3": "Gemma 3",
    "gpt2": "GPT-2, DistilGPT-2",
    "gpt_neox": "Pythia, GPT-NeoX, RedPajama-INCITE, Dolly 2",
    "granite": "Granite 3",
    "internlm2": "InternLM 2, 2.5",
    "llama": "Llama 1 to 3.3, TinyLlama, SmolLM, SmolLM2, Vicuna, CodeLlama, Yi",
    "ministral3": "Ministral 3",
    "mistral": "Mistral 7B, Mistral Nemo, Zephyr",
    "olmo2": "OLMo 2",
    "phi": "Phi-1, Phi-1.5, Phi-2",
    "phi3": "Phi-3, Phi-3.5, Phi-4",
    "qwen2": "Qwen 1.5, Qwen 2, Qwen 2.5, DeepSeek-R1-Distill-Qwen",
    "qwen3": "Qwen 3",
    "smollm3": "SmolLM3",
    "stablelm": "StableLM, StableLM 2",
}
"""Published models, by the module of their architecture."""

LIST = (
    "Llama, Mistral, Ministral, Qwen, Gemma, Phi, Granite, OLMo, SmolLM, StableLM, InternLM and GPT"
)
"""The families as README and the first page of the docs list them."""

HEAD = (
    "models",
    "`model_type`",
    "MLC's weights",
    "GGUF",
    "cpu",
    "vulkan",
    "cuda",
    "metal",
    "lines",
)


def families() -> dict[str, list[Architecture]]:
    """The built-in architectures, by their module's name."""
    registry, found = default_registry(), defaultdict(list)
    for name in registry.names("architecture"):
        architecture = registry.architecture(name)
        package, _, module = type(architecture).__module__.rpartition(".")
        if package == "mlc_llm.model":
            found[module].append(architecture)
    return dict(found)


def with_layouts() -> set[str]:
    """The architectures whose tests compare parameters with MLC's layout."""
    found = set()
    for path in TESTS.glob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            alias.name: node.module
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                values = dict(_assigned(node))
                architecture, layout = values.get("architecture"), values.get("layout")
                if isinstance(architecture, ast.Name) and isinstance(layout, ast.Constant):
                    module = importlib.import_module(imported[architecture.id])
                    if layout.value is not None:
                        found.add(getattr(module, architecture.id).name)
    return found


def _assigned(node: ast.ClassDef) -> Iterable[tuple[str, ast.expr]]:
    for one in node.body:
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name):
            yield one.targets[0].id, one.value


def table() -> str:
    """A row for each family."""
    layouts = with_layouts()
    rows = [HEAD, ("---",) * len(HEAD)]
    for module, architectures in sorted(families().items()):
        names = [one.name for one in architectures]
        files = sorted({one.gguf.architecture for one in architectures if one.gguf})
        tested = "yes" if FAMILIES.keys() & set(names) else "not tried"
        path = ROOT / "mlc_llm" / "model" / f"{module}.py"
        rows.append(
            (
                EXAMPLES[module],
                _code(names),
                "yes" if layouts & set(names) else "none",
                _code(files) or "no",
                *(tested,) * 3,
                "no",
                f"[{_lines(path)}](../mlc_llm/model/{module}.py)",
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _lines(path: Path) -> int:
    """In tens, so that not every change of a file is one of the table."""
    return max(10, round(len(path.read_text(encoding="utf-8").splitlines()), -1))


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def with_table(page: str) -> str:
    """The page with the table as it is now between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
