"""``mlc_llm bench``: how fast a model is here, and where its time goes.

From Python: :func:`~mlc_llm.chat.loading.open_chat` loads a model,
:func:`~mlc_llm.cli.bench.measurement.measure` measures it,
:func:`~mlc_llm.cli.bench.streams.measure_streams` measures several answers at the same time, and
:func:`~mlc_llm.cli.bench.profiling.profile` takes its time apart.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlc_llm.cli.output import say

if TYPE_CHECKING:
    from mlc_llm.chat.loading import LoadedChat
    from mlc_llm.chat.plan import ChatPlan
    from mlc_llm.cli.bench.peaks import Peaks
    from mlc_llm.cli.bench.settings import BenchSettings
    from mlc_llm.config import ChatConfig

logger = logging.getLogger("mlc_llm")

PICTURES = (".svg", ".png")


class WholeNumber(click.ParamType):
    """A whole number that is not less than another one.

    Args:
        least: the smallest that is taken.
    """

    name = "number"

    def __init__(self, least: int) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; what is none, or too small, fails."""
        try:
            number = int(value)
        except ValueError:
            number = None
        if number is None or number < self.least:
            self.fail(f"{value} is not a whole number from {self.least}.", param, ctx)
        return number


class StreamCounts(click.ParamType):
    """Numbers of streams, with commas between them."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The numbers, in the order in which they are measured; what is none fails."""
        try:
            numbers = [int(word) for word in value.split(",")]
        except ValueError:
            numbers = []
        if not numbers or min(numbers) < 1:
            self.fail(f"{value} does not list whole numbers from 1, as 1,2,4,8 does.", param, ctx)
        from mlc_llm.cli.bench.settings import stream_counts

        return stream_counts(numbers)


class PictureFile(click.Path):
    """The path of a picture, whose ending says of which kind it is."""

    name = "file"

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False, writable=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; another ending fails."""
        if Path(value).suffix.lower() not in PICTURES:
            self.fail(f"{value} does not end with {' or '.join(PICTURES)}.", param, ctx)
        return super().convert(value, param, ctx)


@click.command(name="bench")
@click.argument("model", required=False)
@click.option("--device", default="auto", show_default=True, help="NAME or NAME:INDEX.")
@click.option("--model-lib", help="A compiled library; by default one is found or compiled.")
@click.option("--opt", help="Compilation options, such as activations=a8.")
@click.option("--deterministic", is_flag=True, help="Compute prompts the same way as answers.")
@click.option(
    "--allow-prebuilt",
    is_flag=True,
    help="Open library files that lie beside the weights or under dist/.",
)
@click.option(
    "--prompt-length",
    type=WholeNumber(1),
    default=128,
    show_default=True,
    help="Tokens of a prefill.",
)
@click.option(
    "--generate-length",
    type=WholeNumber(1),
    default=128,
    show_default=True,
    help="Tokens that are generated, one a step.",
)
@click.option(
    "--context",
    type=WholeNumber(0),
    default=0,
    show_default=True,
    help="Tokens in the KV cache before what is measured.",
)
@click.option("--threads", type=WholeNumber(1), help="Threads of the CPU; by default its cores.")
@click.option(
    "--repeat",
    type=WholeNumber(1),
    default=5,
    show_default=True,
    help="How often each is measured.",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON, with every single value.")
@click.option("--profile", "profiled", is_flag=True, help="Show the time of each kernel, too.")
@click.option(
    "--streams",
    type=StreamCounts(),
    help="Measure that many answers at the same time, too, as in 1,2,4,8.",
)
@click.option(
    "--picture",
    type=PictureFile(),
    help="Draw the profile, or with --streams their speed, as .svg or .png.",
)
def command(
    model: str | None,
    device: str,
    model_lib: str | None,
    opt: str | None,
    deterministic: bool,
    allow_prebuilt: bool,
    threads: int | None,
    as_json: bool,
    profiled: bool,
    streams: tuple[int, ...] | None,
    picture: Path | None,
    **sizes: int,
) -> None:
    """Measure how fast MODEL is, which is what `mlc_llm chat` takes; without one, "demo".

    Prefill and decode are measured with random tokens after one warm-up. Shown are medians, and the
    least and the most of all repeats.
    """
    if picture is not None:
        if profiled and streams:
            raise click.UsageError("--picture draws --profile or --streams, not both.")
        from mlc_llm.cli.bench.figure import require_matplotlib

        require_matplotlib()
    from mlc_llm.chat.loading import open_chat
    from mlc_llm.cli.bench.settings import BenchSettings
    from mlc_llm.cli.running import prepare_to_run
    from mlc_llm.weights.locate import DEMO

    settings = BenchSettings(**sizes)
    prepare_to_run(allow_prebuilt)
    config = _chat_config(threads, opt, deterministic)
    with open_chat(
        model or DEMO,
        device,
        config,
        model_lib or None,
        progress=True,
        check=lambda plan: _check(plan, settings, streams),
    ) as chat:
        _report(chat, settings, streams, as_json, profiled, picture)


def _chat_config(threads: int | None, opt: str | None, deterministic: bool) -> ChatConfig:
    from mlc_llm.config import ChatConfig

    config = ChatConfig()
    if threads is not None:
        config.num_threads = threads
    if opt is not None:
        config.opt = opt
    if deterministic:
        config.deterministic = True
    return config


def _check(plan: ChatPlan, settings: BenchSettings, streams: tuple[int, ...] | None) -> None:
    """Refuse what cannot be measured, before anything is loaded."""
    settings.require_window(plan.model.window.size)
    if streams is not None:
        from mlc_llm.cli.bench.streams import require_memory
        from mlc_llm.runtime.memory import available_on

        settings.require_stream_window(plan.model.window.size)
        require_memory(plan.model, streams[-1], settings, available_on(plan.device.adapter))


def _report(
    chat: LoadedChat,
    settings: BenchSettings,
    streams: tuple[int, ...] | None,
    as_json: bool,
    profiled: bool,
    picture: Path | None,
) -> None:
    """Measure, and write what was asked for."""
    from mlc_llm.cli.bench.document import document, model_settings
    from mlc_llm.cli.bench.measurement import measure
    from mlc_llm.cli.bench.profiling import profile
    from mlc_llm.cli.bench.streams import measure_streams
    from mlc_llm.cli.bench.tables import headline, show_measurement, show_profile, show_streams

    measurement = measure(chat, settings)
    many = measure_streams(chat, streams, settings) if streams is not None else None
    profiled = profiled or (picture is not None and many is None)
    found = profile(chat, settings, _peaks(chat)) if profiled else None
    title = headline(model_settings(chat), settings)
    if as_json:
        say(json.dumps(document(chat, measurement, found, many), indent=2))
    else:
        say(title)
        show_measurement(measurement)
        if many is not None:
            show_streams(many)
        if found is not None:
            show_profile(found)
    if picture is not None and many is not None:
        from mlc_llm.cli.bench.streams_picture import draw_streams

        draw_streams(many, title, picture)
    elif picture is not None and found is not None:
        from mlc_llm.cli.bench.picture import draw

        draw(found, title, picture)


def _peaks(chat: LoadedChat) -> Peaks | None:
    """The machine's peaks, or None with the reason on stderr."""
    from mlc_llm.cli.bench.peaks import measure_peaks
    from mlc_llm.errors import CompileError

    try:
        return measure_peaks(chat)
    except (CompileError, OSError) as error:
        logger.warning("The profile is not compared with this machine's peaks: %s", error)
        return None
