"""A small model folder, written tensor by tensor."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from mlc_llm.weights.manifest import MANIFEST_FILE
from mlc_llm.weights.shard_writer import ShardWriter

FETCH = """
import json, logging, sys, traceback
if sys.argv.pop(1) == "debug":
    logging.basicConfig(level=logging.DEBUG)
else:
    logging.basicConfig(level=logging.WARNING)
to_run = sys.argv.pop(1) == "run"
from mlc_llm.errors import HubError
from mlc_llm.weights.locate import resolve_model
for model in sys.argv[1:]:
    try:
        found = {"path": str(resolve_model(model, progress=True, to_run=to_run))}
    except HubError as error:
        traceback.print_exc()
        found = {"error": str(error), "code": error.code}
    print(json.dumps(found))
"""

CHAT_CONFIG = {
    "model_type": "llama",
    "quantization": "q0f32",
    "model_config": {"hidden_size": 8},
    "vocab_size": 16,
    "tokenizer_files": ["tokenizer.json"],
    "conv_template": "LM",
}


@pytest.fixture
def tensors():
    """Named arrays of several dtypes and shapes, one of them empty and one of odd size."""
    random = np.random.default_rng(0)
    return {
        "embed.weight": random.standard_normal((16, 8), dtype=np.float32),
        "odd.weight": random.standard_normal((3,)).astype(np.float16),
        "codes.q_weight": random.integers(0, 1 << 32, (5, 4), dtype=np.uint32),
        "empty.weight": np.zeros((0, 4), np.float32),
        "norm.weight": random.standard_normal((7,), dtype=np.float32),
    }


@pytest.fixture
def model_folder(tmp_path, tensors):
    """A valid model folder with two shards, ``params_shard_0.bin`` and ``params_shard_1.bin``."""
    folder = tmp_path / "model"
    folder.mkdir()
    with ShardWriter(folder, limit=600) as writer:
        for name, array in tensors.items():
            writer.add(name, array.shape, str(array.dtype), [array])
        manifest = writer.finish({"ParamSize": len(tensors)})
    assert len(manifest.shards) == 2
    (folder / MANIFEST_FILE).write_bytes(manifest.dump())
    (folder / "mlc-chat-config.json").write_text(json.dumps(CHAT_CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture
def fetch(tmp_path):
    """Resolve models in a child process, whose hub settings are its own."""

    def run(endpoint, *models, log=None, to_run=True, **variables):
        environment = {
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(tmp_path / "huggingface"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "MLC_LLM_CACHE": str(tmp_path / "cache"),
            "NO_PROXY": "127.0.0.1,localhost",
            **variables,
        }
        purpose = "run" if to_run else "keep"
        level = "warnings" if log is None else "debug"
        command = [sys.executable, "-c", FETCH, level, purpose, *models]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        if log is None:
            assert "%|" not in done.stderr  # no progress where stderr is no terminal
        else:
            log.append(done.stdout + done.stderr)
        run.said = done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run
