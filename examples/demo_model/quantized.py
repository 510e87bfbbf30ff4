"""Training for the quantised weights that will be shipped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

GROUP = 32
LARGEST = 7


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """What ``q4f16_1`` makes of a weight: group by group, 15 levels and a float16 scale.

    Args:
        weight: float32 of shape (rows, columns); the columns are a multiple of 32.

    Returns:
        The weight as it is after quantising and back, of the same shape and dtype.
    """
    # In float16 step by step, as MLC and this project convert weights.
    groups = weight.unflatten(-1, (-1, GROUP)).half()
    scale = groups.abs().amax(-1, keepdim=True) / LARGEST
    scale = scale.clamp_min(torch.finfo(torch.float16).tiny)
    codes = (groups / scale + LARGEST).round().clamp(0, 2 * LARGEST) - LARGEST
    return (codes.float() * scale.float()).flatten(-2)


@contextmanager
def quantized(model: torch.nn.Module, active: bool = True) -> Iterator[None]:
    """Let a model compute with its weights rounded, and have the exact ones back afterwards.

    Gradients taken meanwhile go to the exact weights, as if rounding had a slope of one (the
    straight-through estimator of Bengio, Leonard and Courville, arXiv:1308.3432).

    Args:
        model: its matrices are rounded; its norms stay as they are.
        active: whether to do so at all.
    """
    matrices = [weight for weight in model.parameters() if weight.ndim == 2] if active else []
    exact = [weight.detach().clone() for weight in matrices]
    with torch.no_grad():
        for weight in matrices:
            weight.copy_(rounded(weight))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, original in zip(matrices, exact, strict=True):
                weight.copy_(original)
