"""One question to a model in two moods: what ChatConfig and ConvConfig are for.

A ``ConvConfig`` overrides the model's conversation template, and a ``ChatConfig`` the rest of its
``mlc-chat-config.json``. Only what is set overrides. Both can be changed while the model is loaded.
"""

import argparse

from mlc_llm import ChatConfig, ChatModule, ConvConfig
from mlc_llm.callback import StreamToStdout

QUESTION = "What is one plus one?"


def mood(name: str) -> ChatConfig:
    """A configuration whose system message asks for a mood, and whose answers are short."""
    message = f"Please show as much {name} as you can when talking to me."
    return ChatConfig(max_gen_len=128, conv_config=ConvConfig(system_message=message))


def ask(cm: ChatModule) -> None:
    print(f"> {QUESTION}")
    cm.generate(QUESTION, progress_callback=StreamToStdout(callback_interval=2))


def configure(model: str, device: str, model_lib: str | None) -> None:
    """Ask a happy model, then forget the conversation and ask a sad one."""
    with ChatModule(model, device, mood("happiness"), model_lib) as cm:
        ask(cm)
        cm.reset_chat(mood("sadness"))
        ask(cm)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="demo", help="a model folder or HF://org/name")
    parser.add_argument("--device", default="auto", help="auto, a name, or name:index")
    parser.add_argument("--model-lib", help="a compiled library; without it one is found or made")
    configure(**vars(parser.parse_args()))
