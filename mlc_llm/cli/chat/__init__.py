"""``mlc_llm chat``: a conversation in the terminal or through pipes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from mlc_llm.cli.app import hide_what_is_used
from mlc_llm.cli.output import say
from mlc_llm.errors import MLCError

if TYPE_CHECKING:
    from mlc_llm.cli.chat.session import ChatSession
    from mlc_llm.config import ChatConfig

A_REAL_MODEL = "smollm2"


@click.command(name="chat")
@click.argument("model", required=False)
@click.option("--device", default="auto", show_default=True, help="NAME or NAME:INDEX.")
@click.option("--model-lib", help="A compiled library; by default one is found or compiled.")
@click.option("--conv-template", help="A conversation template's name, instead of the model's.")
@click.option("--system", help="The system message, instead of the template's.")
@click.option("--prompt", help="Answer this and leave; - takes all of the input as one prompt.")
@click.option("--temperature", type=float, help="0 always takes the likeliest token.")
@click.option("--top-p", type=float, help="Sample from the likeliest tokens of this share.")
@click.option("--repetition-penalty", type=float, help="Above 1 makes repetitions rarer.")
@click.option("--max-gen-len", type=int, help="Most tokens of one answer.")
@click.option("--seed", type=int, help="Makes sampling reproducible.")
@click.option("--threads", type=int, help="Threads of the CPU; by default its physical cores.")
@click.option("--opt", help="Compilation options, such as activations=a8.")
@click.option(
    "--deterministic",
    is_flag=True,
    help="Compute prompts the same way as answers, so that answers repeat exactly; slower.",
)
@click.option(
    "--allow-prebuilt",
    is_flag=True,
    help="Open library files that lie beside the weights or under dist/.",
)
@click.option("--no-history", is_flag=True, help="Neither read nor keep what is typed.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: str | None,
    device: str,
    model_lib: str | None,
    conv_template: str | None,
    system: str | None,
    prompt: str | None,
    threads: int | None,
    opt: str | None,
    deterministic: bool,
    allow_prebuilt: bool,
    no_history: bool,
    **sampling: float | int | None,
) -> None:
    """Chat with MODEL: a model folder, a GGUF file, HF://org/name, or a name from `mlc_llm list`.

    Without one, the small "demo" answers. A model in another format is converted once.

    Answers are written on stdout, everything else on stderr. On a terminal, /help shows commands
    and keys. When the input is not a terminal, each of its lines is a turn, or a command if it
    begins with one; a space before the slash makes it a turn.
    """
    if prompt == "-":
        prompt = _read_prompt()
    from mlc_llm.chat_module import ChatModule
    from mlc_llm.cli.chat.commands import OpenChat
    from mlc_llm.cli.chat.session import ChatSession
    from mlc_llm.cli.running import prepare_to_run
    from mlc_llm.config import GenerationConfig
    from mlc_llm.weights.locate import DEMO

    if model is None:
        model = DEMO
        say(
            "No model is named, so this is demo, a tiny one that shows how things work. "
            f"For a real one: mlc_llm chat {A_REAL_MODEL}",
            err=True,
        )
    prepare_to_run(allow_prebuilt)
    hide_what_is_used()
    given: dict[str, Any] = {name: value for name, value in sampling.items() if value is not None}
    generation = GenerationConfig(**given)
    config = _chat_config(conv_template, system, threads, opt, deterministic)
    # Its progress is shown here, which it is not in a program that uses ChatModule.
    with ChatModule(model, device, config, model_lib or None, progress=True) as chat:
        session = ChatSession(OpenChat(chat, model, config, generation))
        if prompt is not None:
            code = session.answer_once(prompt)
        elif sys.stdin.isatty():
            code = _talk(session, no_history)
        else:
            code = session.read_turns(sys.stdin.buffer)
    ctx.exit(code)


def _talk(session: ChatSession, no_history: bool) -> int:
    """Talk on the terminal; returns the exit code."""
    from mlc_llm.cli.chat.history_file import history_path
    from mlc_llm.cli.chat.reading import open_reader

    return session.talk(open_reader(None if no_history else history_path()))


def _read_prompt() -> str:
    """All of the input, without the line end that closes it."""
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MLCError(
            f"The input is not valid UTF-8: {error}.", code="input-undecodable"
        ) from None
    if not text.strip():
        raise MLCError(
            "--prompt - takes the prompt from the input, and that is empty.", code="prompt-empty"
        )
    return text.removesuffix("\n").removesuffix("\r")


def _chat_config(
    conv_template: str | None,
    system: str | None,
    threads: int | None,
    opt: str | None,
    deterministic: bool,
) -> ChatConfig:
    """What the options override of the model's own configuration."""
    from mlc_llm.config import ChatConfig, ConvConfig

    config = ChatConfig()
    if conv_template is not None:
        config.conv_template = conv_template
    if system is not None:
        config.conv_config = ConvConfig(system_message=system)
    if threads is not None:
        config.num_threads = threads
    if opt is not None:
        config.opt = opt
    if deterministic:
        config.deterministic = True
    return config
