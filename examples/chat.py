"""A conversation of two turns, and how fast it went.

The second question is about the first answer, which the model still knows.
"""

import argparse

from mlc_llm import ChatModule
from mlc_llm.callback import StreamToStdout


def chat(model: str, device: str, model_lib: str | None) -> None:
    """Ask two questions; print the answers as they are written, and the speed."""
    with ChatModule(model, device, model_lib=model_lib) as cm:
        for question in ("What is the meaning of life?", "How many points did you list out?"):
            print(f"> {question}")
            cm.generate(question, progress_callback=StreamToStdout(callback_interval=2))
            print()
        print(f"Statistics: {cm.stats()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="demo", help="a model folder or HF://org/name")
    parser.add_argument("--device", default="auto", help="auto, a name, or name:index")
    parser.add_argument("--model-lib", help="a compiled library; without it one is found or made")
    chat(**vars(parser.parse_args()))
