"""What the model learns from: short dialogues and plain text, made from patterns."""

from examples.demo_model.corpus.mix import Dialogue, Sample, samples
from examples.demo_model.corpus.turn import Turn

__all__ = ["Dialogue", "Sample", "Turn", "samples"]
