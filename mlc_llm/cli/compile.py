"""``mlc_llm compile``: a model's library as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlc_llm.cli.output import say_path

if TYPE_CHECKING:
    from mlc_llm.weights.folder import ModelFolder


@click.command(name="compile")
@click.argument("model")
@click.option("--device", default="auto", show_default=True, help="NAME or NAME:INDEX.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The library's file."
)
@click.option("--opt", default="", help="Compilation options, such as activations=a8.")
@click.option("--deterministic", is_flag=True, help="Compute prompts the same way as answers.")
@click.option(
    "--arch",
    default="",
    help="What to compile for, in the device's words: for cuda compute capabilities, as 80,90. "
    "No such device need be here. By default what is here.",
)
def command(
    model: str, device: str, output: Path | None, opt: str, deterministic: bool, arch: str
) -> None:
    """Compile the library of MODEL, which is what `mlc_llm chat` takes.

    The path of the library is written on stdout. `mlc_llm chat` compiles by itself where there is
    no library; this command makes one to keep or to give away.
    """
    from mlc_llm.compile import compile_model
    from mlc_llm.compile.model import library_file, library_spec, library_target
    from mlc_llm.convert.cached import converted, is_checkpoint
    from mlc_llm.weights.locate import resolve_model

    folder = resolve_model(model, progress=True)
    if is_checkpoint(folder):
        wanted = library_target(device, arch)
        device = wanted.name

        def check(planned: ModelFolder) -> None:
            library_spec(planned, wanted, opt=opt, deterministic=deterministic)
            if output is not None:
                library_file(output)

        folder = converted(folder, wanted.device, progress=True, check=check)
    path = compile_model(folder, device, output, opt=opt, deterministic=deterministic, arch=arch)
    say_path(path)
