"""The programs of MLC LLM's guide to its ChatModule run as they are written there.

The model and the library that they name are the small ones, under those names.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

MODEL = Path("dist/Llama-2-7b-chat-hf-q4f16_1-MLC")
LIBRARY = Path("dist/prebuilt_libs/Llama-2-7b-chat-hf/Llama-2-7b-chat-hf-q4f16_1-cuda.so")

CHAT = f"""
from mlc_llm import ChatModule
from mlc_llm.callback import StreamToStdout

cm = ChatModule(model="{MODEL}", model_lib="{LIBRARY}")
output = cm.generate(
   prompt="What is the meaning of life?",
   progress_callback=StreamToStdout(callback_interval=2),
)
print(f"Statistics: {{cm.stats()}}\\n")
output = cm.generate(
   prompt="How many points did you list out?",
   progress_callback=StreamToStdout(callback_interval=2),
)
cm.reset_chat()
"""

CONFIGURED = f"""
from mlc_llm import ChatModule, ChatConfig, ConvConfig
from mlc_llm.callback import StreamToStdout

conv_config = ConvConfig(system_message='Please show as much happiness as you can.')
chat_config = ChatConfig(max_gen_len=256, conv_config=conv_config)
cm = ChatModule(chat_config=chat_config, model="{MODEL}", model_lib="{LIBRARY}")
output = cm.generate(
   prompt="What is one plus one?",
   progress_callback=StreamToStdout(callback_interval=2),
)
happy = cm.results[0].prompt_tokens
conv_config = ConvConfig(system='Please show as much sadness as you can when talking to me.')
chat_config = ChatConfig(max_gen_len=128, conv_config=conv_config)
cm.reset_chat(chat_config)
output = cm.generate(
   prompt="What is one plus one?",
   progress_callback=StreamToStdout(callback_interval=2),
)
longer = len(conv_config.system_message) - len('Please show as much happiness as you can.')
assert cm.results[0].prompt_tokens == happy + longer
"""

RAW = f"""
from mlc_llm import ChatModule, ChatConfig, ConvConfig
from mlc_llm.callback import StreamToStdout

conv_config = ConvConfig(stop_tokens=[2,], add_bos=True, stop_str="[INST]")
chat_config = ChatConfig(conv_config=conv_config, conv_template="LM")
cm = ChatModule(chat_config=chat_config, model="{MODEL}", model_lib="{LIBRARY}")
system_prompt = "<<SYS>>\\nYou are a helpful, respectful and honest assistant.\\n<</SYS>>\\n\\n"
inst_prompt = "What is mother nature?"
output = cm.generate(
   prompt=f"[INST] {{system_prompt+inst_prompt}} [/INST]",
   progress_callback=StreamToStdout(callback_interval=2),
)
assert cm.results[0].prompt_tokens == 1 + len(f"[INST] {{system_prompt+inst_prompt}} [/INST]")
output = cm.generate(
   prompt="Life is a quality that distinguishes",
   progress_callback=StreamToStdout(callback_interval=2),
)
assert cm.results[0].prompt_tokens == 1 + len("Life is a quality that distinguishes")
"""

ITERATOR = f"""
from mlc_llm import ChatModule
from mlc_llm.callback import StreamIterator

cm = ChatModule(model="{MODEL}", model_lib="{LIBRARY}")
from threading import Thread

stream = StreamIterator(callback_interval=2)
generation_thread = Thread(
   target=cm.generate,
   kwargs={{"prompt": "What is the meaning of life?", "progress_callback": stream}},
)
generation_thread.start()
output = ""
for delta_message in stream:
   output += delta_message
generation_thread.join()
print(output)
"""


@pytest.fixture(scope="module")
def workplace(
    checkpoint: Path, library: str, make_model: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with the model and the library where the guide has them."""
    folder = tmp_path_factory.mktemp("guide")
    shutil.copytree(make_model(checkpoint, "q0f32", "llama-2"), folder / MODEL)
    (folder / LIBRARY).parent.mkdir(parents=True)
    shutil.copy(library, folder / LIBRARY)
    return folder


@pytest.mark.parametrize(
    "program", [CHAT, CONFIGURED, RAW, ITERATOR], ids=["chat", "configured", "raw", "iterator"]
)
def test_program(
    workplace: Path,
    program: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(workplace)
    names: dict[str, Any] = {}
    exec(compile(program, "guide", "exec"), names)
    names["cm"].close()
    out, errors = capsys.readouterr()
    assert errors == ""
    assert names["output"]
    assert out.endswith(names["output"] + "\n")
    statistics = re.findall(r"Statistics: prefill: \d+\.\d tok/s, decode: \d+\.\d tok/s\n\n", out)
    assert len(statistics) == program.count("cm.stats()")
