"""The sides of the comparison: the model that each needs, and the child process that it runs in."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.child import ROOT, Child
from benchmarks.results import OURS, OURS_A16, REFERENCE
from benchmarks.shapes import SHAPES

WEIGHTS = ("q4", "gguf", "f16", "f32")
"""Kinds of weights: 4 bits in groups, the same GGUF file for mlc_llm and llama.cpp, or float16 and
float32 as they are."""

MLC_QUANTIZATION = {"q4": "q4f16_1", "f16": "q0f16", "f32": "q0f32"}
GGUF_TYPE = {"q4": "q4_0", "gguf": "q4_k_m", "f16": "f16", "f32": "f32"}
TORCH_DTYPE = {"f16": "bfloat16", "f32": "float32"}


@dataclass(frozen=True)
class Setup:
    """What all sides of a run have in common.

    Args:
        shape: the models' shape.
        weights: one of :data:`WEIGHTS`.
        threads: threads of each side.
        room: tokens that a KV cache must hold.
        work: the folder of the models.
        file: a GGUF file instead of a random one, where the weights are "gguf".
        opt: compilation options of mlc_llm.
        flash_attention: whether llama.cpp uses it.
        llama_cpp_python: an interpreter with llama_cpp and gguf.
        openvino_python: an interpreter with openvino_genai and optimum-intel.
        openvino_properties: of OpenVINO's pipeline.
    """

    shape: str
    weights: str
    threads: int
    room: int
    work: Path
    file: Path | None = None
    opt: str = ""
    flash_attention: bool = False
    llama_cpp_python: str = sys.executable
    openvino_python: str = sys.executable
    openvino_properties: dict[str, str] = field(default_factory=dict)

    def model(self, kind: str) -> Path:
        """Where a side's model is kept."""
        return self.work.resolve() / f"{self.shape}-{kind}"


def prepare(output: Path, python: str, script: str, *arguments: str) -> Path:
    """Make a model with ``benchmarks.SCRIPT`` unless an earlier run made it."""
    if not output.exists():
        print(f"Writing {output}", file=sys.stderr)
        command = [python, "-m", f"benchmarks.{script}", *arguments]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return output


def mlc(opt: str = "") -> Callable[[Setup], list[str]]:
    """The command of mlc_llm's side.

    Args:
        opt: compilation options, instead of the run's.
    """

    def command(setup: Setup) -> list[str]:
        side = [sys.executable, "-m", "benchmarks.mlc_side", str(mlc_model(setup))]
        options = opt or setup.opt
        return [*side, "--context", str(setup.room), *(["--opt", options] if options else [])]

    return command


def mlc_model(setup: Setup) -> Path:
    """What mlc_llm's side loads."""
    if setup.weights == "gguf":
        return gguf_file(setup)
    quantization = MLC_QUANTIZATION[setup.weights]
    folder = setup.model(quantization)
    wanted = (setup.shape, str(folder), "--quantization", quantization)
    return prepare(folder, sys.executable, "random_model", *wanted)


def gguf_file(setup: Setup) -> Path:
    """What llama.cpp loads."""
    if setup.file is not None:
        return setup.file
    kind = GGUF_TYPE[setup.weights]
    file = setup.model(f"{kind}.gguf")
    wanted = (setup.shape, str(file), "--type", kind)
    return prepare(file, setup.llama_cpp_python, "random_gguf", *wanted)


def llama_cpp(setup: Setup) -> list[str]:
    """The command of llama.cpp's side."""
    file = gguf_file(setup)
    command = [setup.llama_cpp_python, "-m", "benchmarks.llama_cpp_side", str(file)]
    command += ["--context", str(setup.room)]
    return [*command, *(["--flash-attention"] if setup.flash_attention else [])]


def openvino_model(setup: Setup, group: int) -> Path:
    """What OpenVINO loads.

    Args:
        setup: the run.
        group: weights that share a scale.
    """
    folder = setup.model(f"ov-g{group}")
    wanted = (setup.shape, str(folder), "--group", str(group))
    return prepare(folder, setup.openvino_python, "random_openvino", *wanted)


def openvino_properties(setup: Setup, side: str) -> dict[str, str]:
    """The properties of OpenVINO's pipeline, by the name of the side."""
    return {
        # Where the CPU has bfloat16 instructions the default is bfloat16, which is slower
        # without AMX.
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(OPENVINO_ACTIVATIONS[side]),
        **setup.openvino_properties,
    }


def openvino(name: str) -> Callable[[Setup], list[str]]:
    """The command of one of OpenVINO's sides."""

    def command(setup: Setup) -> list[str]:
        folder = openvino_model(setup, OPENVINO_GROUPS[name])
        side = [setup.openvino_python, "-m", "benchmarks.openvino_side", str(folder)]
        return [*side, "--properties", json.dumps(openvino_properties(setup, name))]

    return command


def transformers(setup: Setup) -> list[str]:
    """The command of transformers' side, which is in our own environment."""
    command = [sys.executable, "-m", "benchmarks.transformers_side", setup.shape]
    return [*command, "--dtype", TORCH_DTYPE[setup.weights]]


OPENVINO_GROUPS = {
    "openvino-genai, g32": 32,
    "openvino-genai, g128": 128,
    "openvino-genai, g128a128": 128,
}
"""OpenVINO's sides, and how many weights share a scale there."""

OPENVINO_ACTIVATIONS = {
    "openvino-genai, g32": 32,
    "openvino-genai, g128": 32,
    "openvino-genai, g128a128": 128,
}
"""How many activations share a scale when they are rounded to int8; the CPU plugin's default is 32,
whatever the weights' groups."""

SIDES: dict[str, Callable[[Setup], list[str]]] = {
    OURS: mlc(),
    OURS_A16: mlc("activations=a16"),
    REFERENCE: llama_cpp,
    "transformers": transformers,
    **{name: openvino(name) for name in OPENVINO_GROUPS},
}
"""The sides by name; what follows a comma is a variant, of which the fastest one counts.

OpenVINO's variants are the size of the weights' groups and, where it is not the plugin's default
of 32, that of the activations' groups.
"""


def default_sides(shape: str, weights: str) -> tuple[str, ...]:
    """The sides that are compared with such weights, as far as they can have the shape.

    OpenVINO's exporter refuses groups that do not divide the rows of every matrix.
    """
    if weights not in ("q4", "gguf"):
        return (OURS, REFERENCE, "transformers")
    sizes = SHAPES[shape]
    columns = math.gcd(sizes.hidden, sizes.ffn, sizes.heads * sizes.head_dim)
    groups = (name for name, group in OPENVINO_GROUPS.items() if columns % group == 0)
    return (OURS, OURS_A16, REFERENCE, *groups)


def start(name: str, setup: Setup) -> Child:
    """Start a side; its model, which is made first if need be, is loaded when this returns."""
    command = SIDES[name](setup)
    return Child([*command, "--threads", str(setup.threads)], setup.threads)
