"""Tests of the tokenizer that a GGUF file's metadata gives."""
