"""Benchmarks: paired runs against other projects, the limits, compile time and start-up time."""
