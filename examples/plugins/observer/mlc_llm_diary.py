"""Writes what is asked and answered to a file, one JSON object a line."""

import json
import os
from pathlib import Path
from typing import Any

from mlc_llm.plugin import hookimpl


@hookimpl
def mlc_llm_chat_generated(prompt: Any, output: Any) -> None:
    path = Path(os.environ.get("MLC_LLM_DIARY", "diary.jsonl"))
    with path.open("a", encoding="utf-8") as diary:
        diary.write(json.dumps({"prompt": prompt, "answer": output}, default=vars) + "\n")
