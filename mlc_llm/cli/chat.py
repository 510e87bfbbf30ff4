"""``mlc_llm chat``: a conversation in the terminal or through pipes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mlc_llm.config import ChatConfig

WHICH_MODEL = (
    "Say which model to chat with: a folder with mlc-chat-config.json, or HF://org/name for one "
    "on the Hugging Face hub. For example: mlc_llm chat dist/my-model"
)


@click.command(name="chat")
@click.argument("model", required=False)
@click.option("--device", default="auto", show_default=True, help="NAME or NAME:INDEX.")
@click.option("--model-lib", help="A compiled library; by default one is found or compiled.")
@click.option("--conv-template", help="A conversation template's name, instead of the model's.")
@click.option("--system", help="The system message, instead of the template's.")
@click.option("--prompt", help="Answer this and leave.")
@click.option("--temperature", type=float, help="0 always takes the likeliest token.")
@click.option("--top-p", type=float, help="Sample from the likeliest tokens of this share.")
@click.option("--repetition-penalty", type=float, help="Above 1 makes repetitions rarer.")
@click.option("--max-gen-len", type=int, help="Most tokens of one answer.")
@click.option("--seed", type=int, help="Makes sampling reproducible.")
@click.option("--opt", help="Compilation options, such as activations=a8.")
@click.option(
    "--allow-prebuilt",
    is_flag=True,
    help="Open library files that lie beside the weights or under dist/.",
)
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
    opt: str | None,
    allow_prebuilt: bool,
    **sampling: float | int | None,
) -> None:
    """Chat with MODEL, a model folder or HF://org/name.

    Answers are written on stdout, everything else on stderr. When the input is no terminal, each
    of its lines is a turn.
    """
    if model is None:
        raise click.UsageError(WHICH_MODEL, ctx)
    # Chatting needs TVM's runtime alone; compilation happens in a child process.
    os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")
    if allow_prebuilt:
        os.environ["MLC_LLM_ALLOW_PREBUILT"] = "1"
    from mlc_llm.chat_module import ChatModule
    from mlc_llm.cli.session import ChatSession
    from mlc_llm.config import GenerationConfig
    from mlc_llm.weights.source import resolve_model

    # A download shows its progress here, which it does not in a program that uses ChatModule.
    folder = str(resolve_model(model, progress=True))
    given: dict[str, Any] = {name: value for name, value in sampling.items() if value is not None}
    generation = GenerationConfig(**given)
    library = str(Path(model_lib).expanduser()) if model_lib else None
    with ChatModule(folder, device, _chat_config(conv_template, system, opt), library) as chat:
        session = ChatSession(chat, generation)
        if prompt is not None:
            code = session.answer_once(prompt)
        elif sys.stdin.isatty():
            code = session.talk()
        else:
            code = session.read_turns(sys.stdin.buffer)
    ctx.exit(code)


def _chat_config(
    conv_template: str | None, system: str | None, opt: str | None
) -> ChatConfig | None:
    """What the options override of the model's own configuration."""
    from mlc_llm.config import ChatConfig, ConvConfig

    config = ChatConfig()
    if conv_template is not None:
        config.conv_template = conv_template
    if system is not None:
        config.conv_config = ConvConfig(system_message=system)
    if opt is not None:
        config.opt = opt
    return config if config.model_fields_set else None
