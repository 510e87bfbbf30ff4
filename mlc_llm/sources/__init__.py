"""Checkpoints of every format that a model is made from."""
