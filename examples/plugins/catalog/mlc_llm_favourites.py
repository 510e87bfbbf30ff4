"""Short names for models."""

CATALOG = {
    "coder": "HF://Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
    "tiny-llama": {
        "hub": "HF://TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF/tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf",
        "nbytes": 668_788_096,
        "description": "TinyLlama 1.1B Chat (Apache-2.0)",
    },
}
