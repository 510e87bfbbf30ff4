"""``mlc_llm eval``: how well a model predicts a text, alone and beside another model."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlc_llm.cli.output import say

if TYPE_CHECKING:
    from mlc_llm.chat.evaluation import Evaluation, ReadAs, Reader
    from mlc_llm.chat.loading import LoadedChat
    from mlc_llm.chat.plan import ChatPlan
    from mlc_llm.config import ChatConfig


@click.command(name="eval")
@click.argument("model")
@click.option(
    "--text",
    required=True,
    type=click.Path(exists=True, path_type=Path, dir_okay=False),
    help="A text file in UTF-8.",
)
@click.option("--reference", help="A model of the same vocabulary to compare with.")
@click.option(
    "--context",
    type=click.IntRange(min=2),
    default=512,
    show_default=True,
    help="Tokens of a window, from which each token is predicted.",
)
@click.option("--tokens", type=click.IntRange(min=2), help="Most tokens of the text that are read.")
@click.option(
    "--as",
    "read_as",
    type=click.Choice(["prompt", "answer"]),
    default="prompt",
    show_default=True,
    help="Read many tokens at a time, or one by one.",
)
@click.option("--device", default="auto", show_default=True, help="NAME or NAME:INDEX.")
@click.option("--opt", help="Compilation options of MODEL, such as activations=a16.")
@click.option("--reference-opt", help="Those of the reference.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the CPU.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(
    model: str,
    text: Path,
    reference: str | None,
    context: int,
    tokens: int | None,
    read_as: ReadAs,
    device: str,
    opt: str | None,
    reference_opt: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure how well MODEL predicts a text: its perplexity.

    With a reference, also the Kullback-Leibler divergence from it in nats, the largest difference
    of a logit, and how often both find the same token likeliest.
    """
    from mlc_llm.chat.evaluation import Reader, windows
    from mlc_llm.chat.loading import open_chat
    from mlc_llm.cli.running import prepare_to_run
    from mlc_llm.weights.locate import resolve_model

    content = _read(text)
    prepare_to_run(allow_prebuilt=False)

    def cut_for(plan: ChatPlan) -> list[list[int]]:
        return windows(plan.tokenizer, content, context, tokens)

    if reference is not None:  # a wrong name shows before anything is converted
        resolve_model(reference, progress=True)
    with ExitStack() as stack:
        config = _config(context, opt, threads)
        chat = stack.enter_context(open_chat(model, device, config, progress=True, check=cut_for))
        cut = cut_for(chat.plan)
        beside = None
        if reference is not None:
            config = _config(context, reference_opt, threads)

            def check(plan: ChatPlan) -> None:
                _require_same_vocabulary(chat.plan, plan, cut == cut_for(plan))

            beside = stack.enter_context(
                open_chat(reference, device, config, progress=True, check=check)
            )
        expected = None if beside is None else Reader(beside, read_as)
        found = _measured(cut, Reader(chat, read_as), expected)
        if as_json:
            settings = {"text": str(text), "context": context, "as": read_as}
            say(json.dumps(_document(found, chat, beside, settings), indent=2))
        else:
            _show(found, chat, beside)


def _read(path: Path) -> str:
    from mlc_llm.errors import ConfigError

    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not a text in UTF-8: {error.reason} at byte {error.start}.",
            code="text-invalid",
        ) from None


def _config(context: int, opt: str | None, threads: int | None) -> ChatConfig:
    from mlc_llm.config import ChatConfig

    config = ChatConfig(context_window_size=context)
    if opt is not None:
        config.opt = opt
    if threads is not None:
        config.num_threads = threads
    return config


def _require_same_vocabulary(model: ChatPlan, reference: ChatPlan, same_tokens: bool) -> None:
    """Refuse a reference whose predictions are of other tokens."""
    from mlc_llm.errors import ConfigError

    sizes = [plan.folder.config.usable_vocab_size for plan in (model, reference)]
    if same_tokens and sizes[0] == sizes[1]:
        return
    raise ConfigError(
        f"{model.folder.path} and {reference.folder.path} have different vocabularies: their "
        "predictions cannot be compared. Name a reference of the same family.",
        code="vocabulary-mismatch",
    )


def _measured(cut: Sequence[Sequence[int]], model: Reader, reference: Reader | None) -> Evaluation:
    """The evaluation of all windows, with progress on a terminal."""
    from mlc_llm.chat.evaluation import evaluate

    with _progress(sum(map(len, cut))) as advance:
        for count, result in evaluate(model, cut, reference):
            advance(count, f"perplexity {result.perplexity:.3f}")
    return result


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int, str], None]]:
    """A bar on stderr, where that is a terminal. It is told of tokens, and what is known."""
    if not sys.stderr.isatty():
        yield lambda count, known: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tokens"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=total)
        yield lambda count, known: progress.update(task, advance=count, description=known)


def _document(
    found: Evaluation, chat: LoadedChat, reference: LoadedChat | None, settings: dict[str, Any]
) -> dict[str, Any]:
    """An evaluation as one JSON document."""
    from mlc_llm.cli.bench.document import machine, model_settings, versions

    return {
        "versions": versions(),
        "machine": machine(),
        "model": model_settings(chat),
        "reference": None if reference is None else model_settings(reference),
        "settings": settings,
        **dataclasses.asdict(found),
    }


def _show(found: Evaluation, chat: LoadedChat, reference: LoadedChat | None) -> None:
    """An evaluation in lines for people."""
    rows = [
        ("model", str(chat.plan.folder.path)),
        ("tokens", str(found.tokens)),
        ("perplexity", f"{found.perplexity:.4f}"),
    ]
    if found.comparison is not None and reference is not None:
        near = found.comparison
        rows += [
            ("reference", str(reference.plan.folder.path)),
            ("KL divergence", f"{near.kl_divergence:.3g}"),
            ("largest KL divergence", f"{near.largest_kl_divergence:.3g}"),
            ("largest logit error", f"{near.largest_error:.3g}"),
            ("same likeliest token", f"{near.same_token:.2%}"),
        ]
    for name, value in rows:
        say(f"{name:21}  {value}")
