"""``mlc_llm compile``: a model's library as a file."""

from __future__ import annotations

from pathlib import Path

import click

from mlc_llm.cli.output import say_path


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
    from mlc_llm.convert.cached import converted, is_checkpoint
    from mlc_llm.registry.choice import choose_device, device_named
    from mlc_llm.weights.locate import resolve_model

    folder = resolve_model(model, progress=True)
    if is_checkpoint(folder) and arch:
        folder = converted(folder, device_named(device), progress=True)
    elif is_checkpoint(folder):
        chosen = choose_device(device)
        device, folder = str(chosen), converted(folder, chosen.device, progress=True)
    path = compile_model(folder, device, output, opt=opt, deterministic=deterministic, arch=arch)
    say_path(path)
