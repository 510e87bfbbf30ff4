"""Export a model of a named shape with random weights to OpenVINO, in 4 bits.

Needs optimum-intel with OpenVINO and NNCF, in an environment of its own. The weights are
symmetric INT4 in groups, in all linear layers (ratio 1.0); the embedding table and the output head
are INT8 with one scale a row, which is the exporter's default for 4 bits.

    python -m benchmarks.random_openvino tinyllama-1.1b build/bench/tinyllama-1.1b-ov32 --group 32
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.new_folder import new_folder
from benchmarks.random_checkpoint import write_random_checkpoint
from benchmarks.shapes import SHAPES


def export(checkpoint: Path, output: Path, group: int) -> Path:
    """Export a checkpoint and return ``output``, which appears only when it is complete.

    Args:
        checkpoint: a Hugging Face checkpoint.
        output: the folder, which must not exist.
        group: weights that share a scale.
    """
    command = [str(Path(sys.executable).with_name("optimum-cli")), "export", "openvino"]
    command += ["--model", str(checkpoint), "--task", "text-generation-with-past"]
    command += ["--weight-format", "int4", "--sym", "--group-size", str(group), "--ratio", "1.0"]
    # The exporter writes the float16 model to the folder for temporary files in between.
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch, new_folder(output) as folder:
        environment = {**os.environ, "TMPDIR": scratch}
        subprocess.run([*command, str(folder)], env=environment, check=True)
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("output", type=Path)
    parser.add_argument("--group", type=int, choices=[32, 64, 128], default=128)
    parser.add_argument("--checkpoint", type=Path, help="an existing one; else one is made")
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    if arguments.checkpoint is not None:
        print(export(arguments.checkpoint, arguments.output, arguments.group))
        return
    with tempfile.TemporaryDirectory(dir=arguments.output.parent) as folder:
        made = Path(folder) / arguments.shape
        checkpoint = write_random_checkpoint(SHAPES[arguments.shape], made)
        print(export(checkpoint, arguments.output, arguments.group))


if __name__ == "__main__":
    main()
