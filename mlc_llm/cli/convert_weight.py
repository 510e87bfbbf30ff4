"""``mlc_llm convert_weight``: a checkpoint's weights in MLC's layout."""

from __future__ import annotations

from pathlib import Path

import click

from mlc_llm.cli.output import say_path


@click.command(name="convert_weight")
@click.argument("source")
@click.option(
    "--quantization",
    help="Such as q4f16_1 or q0f32. By default a GGUF file keeps its own types, and others are "
    "quantised to q4f16_k.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The model folder to write to.",
)
def command(source: str, quantization: str | None, output: Path) -> None:
    """Convert the weights in SOURCE: a Hugging Face folder, HF://org/name or a GGUF file.

    The model folder's path is written on stdout. `mlc_llm gen_config` adds the rest of it.
    """
    from mlc_llm.convert import convert_weight

    say_path(convert_weight(source, quantization, output, progress=True))
