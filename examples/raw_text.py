"""Raw text: the prompt reaches the model exactly as it is written here.

The template ``LM`` adds no system message and no roles, and every call starts afresh.
"""

import argparse

from mlc_llm import ChatConfig, ChatModule, ConvConfig
from mlc_llm.callback import StreamToStdout

PROMPTS = (
    # Plain text, which the model continues.
    "Life is a quality that distinguishes",
    # A prompt in the form in which Llama 2 was taught to chat, written out by hand.
    "[INST] <<SYS>>\nYou are a helpful, respectful and honest assistant.\n<</SYS>>\n\n"
    "What is mother nature? [/INST]",
)


def continue_texts(model: str, device: str, model_lib: str | None) -> None:
    """Print each prompt with what the model adds to it."""
    # The answer ends before the model writes a user's next turn.
    conv_config = ConvConfig(add_bos=True, stop_str=["[INST]"])
    chat_config = ChatConfig(conv_template="LM", conv_config=conv_config, max_gen_len=128)
    with ChatModule(model, device, chat_config, model_lib) as cm:
        for prompt in PROMPTS:
            print(prompt, end="")
            cm.generate(prompt, progress_callback=StreamToStdout(callback_interval=2))
            print()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="demo", help="a model folder or HF://org/name")
    parser.add_argument("--device", default="auto", help="auto, a name, or name:index")
    parser.add_argument("--model-lib", help="a compiled library; without it one is found or made")
    continue_texts(**vars(parser.parse_args()))
