"""Makes a bundle: everything that checks and measures mlc_llm on a GPU that is elsewhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu import kernel_cases
from benchmarks.gpu.packages import (
    OF_A_VERSION,
    ROOT,
    SHARED,
    add_own,
    add_packages,
    link_duplicates,
)
from benchmarks.shapes import SHAPES, ModelShape

ARCHITECTURES = ("80", "86", "89", "90", "100", "120")
"""Compute capabilities that there is machine code for; newer GPUs take PTX of the last one."""

PYTHONS = ("3.11", "3.12", "3.13")
"""Versions of Python that a bundle is for, if nothing else is asked for."""

MODELS = ("llama-2-7b", "llama-3.1-8b", "mistral-7b-v0.1", "tinyllama-1.1b")
ROWS = {"prompts": [128, 512, 2048], "contexts": [128, 2048, 8192], "steps": 48}

QUICK_SHAPE = ModelShape(256, 512, 2, 4, 2, 64, 512, 512)
QUICK_ROWS = {"prompts": [4, 9, 20], "contexts": [8, 20, 40], "steps": 3}

FORMATS = {".zip": "zip", ".tar": "tar", ".tar.gz": "gztar", ".tar.xz": "xztar"}


def steps(models: Sequence[str]) -> list[tuple[list[str], int]]:
    """Steps in their order, and the seconds that each may take."""
    first = models[0]
    return [
        (["gpu"], 60),
        (["instructions"], 60),
        (["kernels"], 90),
        (["agreement"], 60),
        (["peaks"], 60),
        (["speed", first], 90),
        (["profile", first], 60),
        (["torch"], 60),
        *((["speed", name], 60) for name in models[1:]),
        (["transformers", models[-1]], 60),
        *((["profile", name], 45) for name in models[1:]),
        (["transformers", first], 90),
    ]


def pack(
    output: Path,
    pythons: Sequence[str],
    architectures: Sequence[str] = ARCHITECTURES,
    quick: bool = False,
) -> Path:
    """Make a bundle.

    Args:
        output: a folder that is not there yet, or an archive's file, by its ending.
        pythons: versions of Python that it is for, such as ``3.12``.
        architectures: compute capabilities that code is compiled for.
        quick: whether models and checks are tiny, for the emulated GPU.

    Raises:
        FileExistsError: the folder is there.
    """
    ending = next((e for e in sorted(FORMATS, key=len)[::-1] if output.name.endswith(e)), None)
    if ending is None:
        return _write(output, pythons, architectures, quick)
    with tempfile.TemporaryDirectory() as folder:
        name = output.name.removesuffix(ending)
        _write(Path(folder) / name, pythons, architectures, quick)
        base = str(output.absolute()).removesuffix(ending)
        return Path(shutil.make_archive(base, FORMATS[ending], folder, name))


def _write(folder: Path, pythons: Sequence[str], architectures: Sequence[str], quick: bool) -> Path:
    from benchmarks.gpu.libraries import write_kernels, write_model

    folder.mkdir(parents=True)
    models = {"quick": QUICK_SHAPE} if quick else {name: SHAPES[name] for name in MODELS}
    large = kernel_cases.QUICK_LARGE if quick else kernel_cases.LARGE
    cases = kernel_cases.QUICK if quick else kernel_cases.ALL
    contents: dict[str, Any] = {
        "commit": _commit(),
        "pythons": list(pythons),
        "quick": quick,
        "architectures": list(architectures),
        "rows": QUICK_ROWS if quick else ROWS,
        "copy_bytes": 1 << 20 if quick else 1 << 30,
        "large": large,
        "models": {name: asdict(shape) for name, shape in models.items()},
        # The emulated GPU is slow.
        "steps": [(step, seconds * (4 if quick else 1)) for step, seconds in steps(list(models))],
    }
    (folder / "bundle.json").write_text(json.dumps(contents, indent=1), encoding="utf-8")
    shutil.copy2(Path(__file__).with_name("run.py"), folder)
    add_packages(SHARED, folder / "site", pythons[0])
    add_own(folder / "site")
    for version in pythons:
        add_packages(OF_A_VERSION, folder / f"site-{version}", version)
    link_duplicates(folder / f"site-{version}" for version in pythons)
    libraries = folder / "libraries"
    libraries.mkdir()
    write_kernels(libraries / "kernels.so", cases, large[0], architectures)
    for name, shape in models.items():
        write_model(libraries / f"{name}.so", shape, architectures)
    _write_demo(folder, architectures, quick)
    return folder


def _write_demo(folder: Path, architectures: Sequence[str], quick: bool) -> None:
    """The model of the package, its library, and what the CPU answers."""
    import tvm

    from benchmarks.gpu import agreement
    from mlc_llm.compile import compile_model
    from mlc_llm.tokenizer import load_tokenizer
    from mlc_llm.weights.locate import resolve_model

    source, demo = resolve_model("demo"), folder / "demo"
    shutil.copytree(source, demo)
    library = folder / "libraries" / "demo.so"
    compile_model(source, "cuda", library, arch=",".join(architectures))
    tokenizer = load_tokenizer(demo)
    with tempfile.TemporaryDirectory() as scratch:
        on_cpu = Path(scratch) / "demo.so"
        compile_model(source, "cpu", on_cpu, opt="activations=a16")
        model = agreement.open_model(on_cpu, demo, tvm.cpu())
        expected = []
        count = agreement.QUICK_TOKENS if quick else agreement.TOKENS
        for prompt in agreement.PROMPTS[: 1 if quick else None]:
            ids = list(tokenizer.encode(prompt))
            logits, said = agreement.answer(model, ids, count)
            text = tokenizer.decode(said)
            numbers = [round(float(x), 4) for x in logits]
            case = {"prompt": prompt, "ids": ids, "logits": numbers, "said": said, "text": text}
            expected.append(case)
    (demo / agreement.EXPECTED).write_text(json.dumps(expected), encoding="utf-8")


def _commit() -> str:
    """What the bundle is made of, as Git says."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
