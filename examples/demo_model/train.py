"""Training: a small Llama learns the corpus, and can be interrupted at any time."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM

from examples.demo_model.batches import LENGTHS, Batch, Encoder, pool
from examples.demo_model.quantized import quantized

CHECKPOINT = "checkpoint.pt"
SAVE_EVERY = 250


@dataclass(frozen=True)
class Recipe:
    """Everything that the result depends on, beside the corpus and torch's version.

    Attributes:
        seed: of the weights and of the corpus.
        steps: batches to learn.
        tokens: tokens of a batch, padding included.
        learning_rate: the largest, after the warm-up; it falls linearly to zero.
        warmup: steps in which it rises.
        weight_decay: of the matrices.
        quantized_from: the share of the steps after which the weights are rounded.
        layers, hidden, ffn, heads: the model's shape.
    """

    seed: int = 0
    steps: int = 3000
    tokens: int = 4096
    learning_rate: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.1
    quantized_from: float = 0.7
    layers: int = 5
    hidden: int = 192
    ffn: int = 512
    heads: int = 6


@dataclass
class Progress:
    """Where a training stands: steps done, and the next batch as pool and place in it."""

    step: int = 0
    pool: int = 0
    place: int = 0
    losses: list[float] = dataclasses.field(default_factory=list)


class Training:
    """One training, which goes on from its checkpoint when there is one.

    Args:
        recipe: what to do.
        folder: where the tokenizer's files are, and where the checkpoint is kept.
        held_out: what no user in the corpus may say.
        compiled: whether torch compiles the model, which takes a C++ compiler and a minute or
            two, and then doubles the speed.

    Raises:
        ValueError: the folder's checkpoint belongs to another recipe.
    """

    def __init__(
        self, recipe: Recipe, folder: Path, held_out: Collection[str], *, compiled: bool = True
    ) -> None:
        self.recipe = recipe
        self._checkpoint = folder / CHECKPOINT
        self._encoder = Encoder(folder)
        self._held_out = held_out
        torch.manual_seed(recipe.seed)
        self.model = LlamaForCausalLM(_shape(recipe, self._encoder.vocab_size))
        self._forward = _compiled(self.model) if compiled else self.model
        self._optimizer = _optimizer(self.model, recipe)
        self.progress = Progress()
        self._resume()

    def run(self) -> list[float]:
        """Train to the end.

        Returns:
            The loss of every step, in nats a token.
        """
        recipe, progress = self.recipe, self.progress
        bar = tqdm(
            total=recipe.steps, initial=progress.step, unit="step", file=sys.stderr, mininterval=2
        )
        with bar, warnings.catch_warnings():
            # Inductor's remarks on this machine's features are not for whoever trains.
            warnings.simplefilter("ignore")
            for batch in self._batches():
                progress.losses.append(self._step(batch))
                progress.step += 1
                bar.update()
                bar.set_postfix(loss=f"{_recent(progress.losses):.3f}", refresh=False)
                if progress.step % SAVE_EVERY == 0 or progress.step == recipe.steps:
                    self._save()
                if progress.step == recipe.steps:
                    break
        return progress.losses

    def _batches(self) -> Iterator[Batch]:
        """The batches that are still to learn; ``progress`` says which comes after each."""
        if self.progress.step >= self.recipe.steps:
            return
        while True:
            start = self.progress
            batches = pool(
                self._encoder, self.recipe.seed, start.pool, self.recipe.tokens, self._held_out
            )
            for place, batch in enumerate(batches):
                if place >= start.place:
                    self.progress.place = place + 1
                    yield batch
            self.progress.pool += 1
            self.progress.place = 0

    def _step(self, batch: Batch) -> float:
        recipe = self.recipe
        for group in self._optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _share_of_rate(self.progress.step, recipe)
        rounding = self.progress.step >= recipe.quantized_from * recipe.steps
        with quantized(self.model, rounding):
            logits = self._forward(input_ids=torch.from_numpy(batch.inputs), use_cache=False).logits
            targets = torch.from_numpy(batch.targets)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return loss.item()

    def _save(self) -> None:
        state = {
            "recipe": dataclasses.asdict(self.recipe),
            "progress": dataclasses.asdict(self.progress),
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        temporary = self._checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self._checkpoint)

    def _resume(self) -> None:
        if not self._checkpoint.is_file():
            return
        state: dict[str, Any] = torch.load(self._checkpoint, weights_only=True)
        if state["recipe"] != dataclasses.asdict(self.recipe):
            raise ValueError(
                f"{self._checkpoint} belongs to another recipe: {state['recipe']}. Delete it, or "
                "work in another folder."
            )
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])


def save(model: LlamaForCausalLM, folder: Path) -> None:
    """Write the model in Hugging Face's layout, rounded as the last steps had it."""
    settings = model.generation_config
    settings.do_sample, settings.temperature, settings.top_p = True, 0.7, 0.95
    with quantized(model):
        model.save_pretrained(folder)


def _compiled(model: torch.nn.Module) -> Any:
    """The model, compiled once for every length; torch gives up after eight otherwise."""
    torch._dynamo.config.recompile_limit = 4 * len(LENGTHS)
    return torch.compile(model, dynamic=False)


def _shape(recipe: Recipe, vocab_size: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.ffn,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=LENGTHS[-1],
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        bos_token_id=1,
        eos_token_id=2,
    )


def _optimizer(model: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95), fused=True)


def _share_of_rate(step: int, recipe: Recipe) -> float:
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    return (recipe.steps - step) / max(1, recipe.steps - recipe.warmup)


def _recent(losses: list[float], count: int = 50) -> float:
    return sum(losses[-count:]) / len(losses[-count:])
