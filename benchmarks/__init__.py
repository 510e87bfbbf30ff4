"""Benchmarks: paired runs against llama.cpp, compile time and start-up time."""
