"""Two fine-tunes of one model share one library, as WizardMath does with Mistral.

A library belongs to an architecture, its sizes and a quantisation, and to no weights. Without
SECOND, a copy of MODEL with a conversation of its own stands in for another fine-tune.
"""

import argparse
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from mlc_llm import ChatModule
from mlc_llm.callback import StreamToStdout

QUESTION = "What is one plus one?"


def copy_with_a_mood(model: str, folder: Path) -> str:
    """Copy a model folder, and have its system message ask for happiness; returns the copy."""
    shutil.copytree(model, folder)
    file = folder / "mlc-chat-config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    message = "Please show as much happiness as you can when talking to me."
    config["conv_template"]["system_message"] = message
    file.write_text(json.dumps(config), encoding="utf-8")
    return str(folder)


def compare(model: str, second: str | None, device: str, model_lib: str | None) -> None:
    """Ask both models one question, and print which library each has used."""
    with TemporaryDirectory() as scratch, ChatModule(model, device, model_lib=model_lib) as cm:
        second = second or copy_with_a_mood(cm.model_path, Path(scratch) / "second")
        with ChatModule(second, device, model_lib=model_lib) as other:
            for chat in (cm, other):
                print(f"{chat.model_path}\n  with {chat.model_lib}\n> {QUESTION}")
                chat.generate(QUESTION, progress_callback=StreamToStdout(callback_interval=2))
            shared = cm.model_lib == other.model_lib
            print("They share one library." if shared else "They need a library each.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="demo", help="a model folder or HF://org/name")
    parser.add_argument("second", nargs="?", help="another model folder or HF://org/name")
    parser.add_argument("--device", default="auto", help="auto, a name, or name:index")
    parser.add_argument("--model-lib", help="a compiled library; without it one is found or made")
    compare(**vars(parser.parse_args()))
