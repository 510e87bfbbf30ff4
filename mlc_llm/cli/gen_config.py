"""``mlc_llm gen_config``: the configuration and tokenizer of a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlc_llm.cli.output import say_path


@click.command(name="gen_config")
@click.argument("source")
@click.option("--quantization", help="As given to convert_weight.")
@click.option(
    "--conv-template",
    help="A conversation template's name, which `mlc_llm templates` lists; by default the model's "
    "own chat template is used.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The model folder to write to.",
)
@click.option("--context-window-size", type=int, help="Tokens that a conversation may hold.")
@click.option("--sliding-window-size", type=int, help="Tokens that attention looks back.")
@click.option("--prefill-chunk-size", type=int, help="Most tokens that one prefill step takes.")
@click.option("--attention-sink-size", type=int, help="First tokens that the window keeps.")
@click.option("--max-batch-size", type=int, help="Most sequences that are decoded together.")
def command(
    source: str, quantization: str | None, conv_template: str | None, output: Path, **sizes: Any
) -> None:
    """Write mlc-chat-config.json and tokenizer for SOURCE, as convert_weight takes it.

    The written file's path is written on stdout. What is not given comes from the model.
    """
    from mlc_llm.convert import gen_config

    say_path(gen_config(source, quantization, conv_template, output, **sizes))
