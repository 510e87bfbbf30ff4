"""A fresh virtual environment, wheels, and tiny models made with NumPy alone."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

OWN = ("mlc_llm", "__editable__", "_editable_")
"""How this project's own entries in a site-packages folder begin, editable installs included."""

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "vocab_size": 320,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def run(command: list[str | Path], **options: Any) -> str:
    """Run a command and return its stdout; a failure shows all that it wrote."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    assert result.returncode == 0, f"{command}:\n{result.stdout}\n{result.stderr}"
    return result.stdout


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and a folder that its processes work in."""

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")

    def run(self, program: str, *arguments: str | Path) -> str:
        """Run a program of the environment, which knows nothing of this process's settings."""
        own = ("PYTHON", "MLC_LLM_")
        variables = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        variables["MLC_LLM_CACHE"] = str(self.folder / "cache")
        return run([self.bin / program, *arguments], cwd=self.folder, env=variables)

    def pip(self, *arguments: str | Path) -> str:
        """Run the pip that runs outside, for this environment, on what is on this disk alone."""
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
        return run([*pip, "--python", self.bin / "python", *arguments], cwd=self.folder)

    def install(self, *wheels: Path) -> None:
        """Install wheels, and nothing with them."""
        self.pip("install", "--no-deps", "--no-index", "--force-reinstall", *wheels)

    def plugins(self) -> list[dict[str, Any]]:
        """What ``mlc_llm plugins --json`` lists; there must be no problem with any of them."""
        shown = json.loads(self.run("mlc_llm", "plugins", "--json"))
        assert not shown["problems"]
        return shown["plugins"]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory, lacks: Any) -> Environment:
    """A fresh virtual environment in which nothing of this project is installed.

    Third-party packages are those of the environment that runs the tests: installing TVM again
    would take minutes and a network. They are links in a folder that a ``.pth`` file adds to
    ``sys.path``. This project, which is installed there too, is left out, so that the environment
    has of it only what is installed from wheels.
    """
    for module in ("pip", "venv", "hatchling"):
        if importlib.util.find_spec(module) is None:
            lacks(f"the module {module} is not installed")
    made = Environment(tmp_path_factory.mktemp("environment"))
    run([sys.executable, "-m", "venv", "--without-pip", made.folder / "venv"])
    third_party = made.folder / "third_party"
    third_party.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            if not entry.name.startswith(OWN) and entry.suffix != ".pth":
                (third_party / entry.name).symlink_to(entry)
    site = run([made.bin / "python", "-c", "import site; print(site.getsitepackages()[0])"])
    (Path(site.strip()) / "third_party.pth").write_text(f"{third_party}\n")
    return made


BuildWheels = Callable[..., list[Path]]


@pytest.fixture(scope="session")
def build_wheels(tmp_path_factory: pytest.TempPathFactory) -> BuildWheels:
    """Build the wheels of some projects, with the build tools that are installed."""

    def build(*projects: Path) -> list[Path]:
        folder = tmp_path_factory.mktemp("wheels")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        alone = ["--no-deps", "--no-build-isolation", "--no-index"]
        run([*pip, "wheel", *alone, "--wheel-dir", folder, *projects], cwd=folder)
        wheels = sorted(folder.glob("*.whl"))
        assert len(wheels) == len(projects)
        return wheels

    return build


MakeModel = Callable[..., Path]


@pytest.fixture(scope="session")
def make_tiny_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, write_tokenizer: Callable[[Path, int], None]
) -> MakeModel:
    """Make a random checkpoint with Llama's weights and a token for every byte (3 + byte)."""

    def make(seed: int, **config: Any) -> Path:
        folder = tmp_path_factory.mktemp("checkpoint")
        fields = {**LLAMA, **config}
        (folder / "config.json").write_text(json.dumps(fields))
        safetensors.numpy.save_file(
            _random_weights(fields, seed), folder / "model.safetensors", {"format": "pt"}
        )
        write_tokenizer(folder / "tokenizer.json", fields["vocab_size"])
        return folder

    return make


def _random_weights(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    hidden, ffn = config["hidden_size"], config["intermediate_size"]
    keys = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens": (config["vocab_size"], hidden)}
    for index in range(config["num_hidden_layers"]):
        layer = f"layers.{index}"
        shapes |= {
            f"{layer}.self_attn.q_proj": (hidden, hidden),
            f"{layer}.self_attn.k_proj": (keys, hidden),
            f"{layer}.self_attn.v_proj": (keys, hidden),
            f"{layer}.self_attn.o_proj": (hidden, hidden),
            f"{layer}.mlp.gate_proj": (ffn, hidden),
            f"{layer}.mlp.up_proj": (ffn, hidden),
            f"{layer}.mlp.down_proj": (hidden, ffn),
            f"{layer}.input_layernorm": (hidden,),
            f"{layer}.post_attention_layernorm": (hidden,),
        }
    shapes["norm"] = (hidden,)
    # Spread wide enough that logits tell tokens apart; norms stay near one, as in real models.
    return {
        f"model.{name}.weight": (
            random.normal(0.0, 0.2, shape) if len(shape) == 2 else random.normal(1.0, 0.1, shape)
        ).astype(np.float32)
        for name, shape in shapes.items()
    }
