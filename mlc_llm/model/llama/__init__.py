"""The Llama family: Llama 1 to 3, TinyLlama, SmolLM and their fine-tunes."""

from mlc_llm.model.llama.architecture import LLAMA, Llama, LlamaConfig

__all__ = ["LLAMA", "Llama", "LlamaConfig"]
