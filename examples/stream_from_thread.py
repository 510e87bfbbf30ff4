"""A stream: one thread generates, another reads what is written, as services do.

If the generation fails, its error is raised where the stream is read. Where the reading thread
may also generate, ``for chunk in cm.stream(prompt)`` is shorter.
"""

import argparse
from threading import Thread

from mlc_llm import ChatModule
from mlc_llm.callback import StreamIterator

PROMPT = "What is the meaning of life?"


def read_stream(model: str, device: str, model_lib: str | None) -> None:
    """Generate in a thread; print the answer here, part by part."""
    with ChatModule(model, device, model_lib=model_lib) as cm:
        stream = StreamIterator(callback_interval=2)
        arguments = {"prompt": PROMPT, "progress_callback": stream}
        generation = Thread(target=cm.generate, kwargs=arguments)
        generation.start()
        parts = 0
        for delta in stream:
            print(delta, end="", flush=True)
            parts += 1
        generation.join()
        print(f"\n(read in {parts} parts)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="demo", help="a model folder or HF://org/name")
    parser.add_argument("--device", default="auto", help="auto, a name, or name:index")
    parser.add_argument("--model-lib", help="a compiled library; without it one is found or made")
    read_stream(**vars(parser.parse_args()))
