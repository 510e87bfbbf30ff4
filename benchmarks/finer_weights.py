"""Which weights of a model are worth more bits: plans in the manner of ``q4f16_k``, compared.

The weights of a Llama checkpoint are quantised as a plan says and dequantised again, and
transformers computes with them in float32, so that nothing but the weights differs. Of the
predictions of a text: the Kullback-Leibler divergence from those of the original weights (in nats,
the mean over all tokens), how often the likeliest next token is the same, and the perplexity.

    python -m benchmarks.finer_weights HF_FOLDER TEXT_FILE --tokens 1024 [--rotate]

``--rotate`` turns the hidden states by a random rotation, and the weights with them: the model
stays the same, but for rounding errors. A checkpoint that was itself made of quantised weights,
such as one from a GGUF file, lies on a grid that it would otherwise be quantised back to.

Needs torch and transformers.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from mlc_llm.plugin import Scheme
from mlc_llm.quantization.packing import dequantize, quantize

SEED = 0

SYMMETRIC = Scheme(4, "float16", group=32, zero=7)
MINIMUM = Scheme(4, "float16", group=32)
FOUR = Scheme(4, "float16", group=32, super_group=256)
FIVE = Scheme(5, "float16", group=32, super_group=256)
SIX = Scheme(6, "float16", group=32, zero=31)
EIGHT = Scheme(8, "float16", group=32, zero=127)


@dataclass(frozen=True)
class Candidate:
    """Schemes for the weights of a model.

    Args:
        name: for the table.
        most: the scheme of most weights.
        table: that of the embedding and the head.
        finer: that of value and down projections.
        everywhere: whether they have it in all layers, and not in half of them.
    """

    name: str
    most: Scheme
    table: Scheme
    finer: Scheme
    everywhere: bool = False

    def scheme(self, weight: str, layers: int) -> Scheme:
        """The scheme of a weight of a model with that many layers."""
        if "embed_tokens" in weight or "lm_head" in weight:
            return self.table
        if "v_proj" not in weight and "down_proj" not in weight:
            return self.most
        layer, eighth = int(weight.split(".")[2]), layers // 8
        outer = layer < eighth or layer >= 7 * layers // 8
        # Half of the layers, as llama.cpp chooses them for its mixed types.
        return self.finer if self.everywhere or outer or (layer - eighth) % 3 == 2 else self.most


CANDIDATES = (
    Candidate("q4f16_1", SYMMETRIC, SYMMETRIC, SYMMETRIC),
    Candidate("q4f16_1, tables in 8 bits", SYMMETRIC, EIGHT, SYMMETRIC),
    Candidate("q4f16_m", MINIMUM, MINIMUM, MINIMUM),
    Candidate("two levels", FOUR, FOUR, FOUR),
    Candidate("two levels, tables in 8 bits", FOUR, EIGHT, FOUR),
    Candidate("and half of v and down in 8", FOUR, EIGHT, EIGHT),
    Candidate("and half of v and down in 6", FOUR, EIGHT, SIX),
    Candidate("the same, tables in 6 bits", FOUR, SIX, SIX),
    Candidate("and half of v and down in 5", FOUR, EIGHT, FIVE),
    Candidate("and all of v and down in 5 (q4f16_k)", FOUR, EIGHT, FIVE, everywhere=True),
)


class Subject:
    """A checkpoint whose weights are replaced and put back.

    Args:
        folder: in Hugging Face's layout.
        text: a text file.
        tokens: how many of its tokens are predicted.
        rotate: whether to turn the hidden states.
    """

    def __init__(self, folder: Path, text: Path, tokens: int, rotate: bool) -> None:
        load = transformers.AutoModelForCausalLM.from_pretrained
        self._model = load(folder, dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        ids = tokenizer(text.read_text(encoding="utf-8"))["input_ids"][:tokens]
        self._ids = torch.tensor([ids])
        self._expected = self._logprobs()
        # A tied head is quantised by itself, once it is turned.
        head = self._model.lm_head
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        if rotate:
            self._rotate()
        self._weights = {
            name: parameter.detach().clone()
            for name, parameter in self._model.named_parameters()
            if parameter.ndim == 2
        }

    def measure(self, candidate: Candidate) -> str:
        """A line of the table."""
        layers, bits, weights = self._model.config.num_hidden_layers, 0.0, 0
        with torch.no_grad():
            for name, weight in self._weights.items():
                scheme, columns = candidate.scheme(name, layers), weight.shape[1]
                stored = quantize(weight.numpy(), scheme)
                values = torch.from_numpy(dequantize(stored, columns, scheme))
                self._model.get_parameter(name).copy_(values)
                if name != "lm_head.weight":
                    bits += scheme.bits_per_weight * weight.numel()
                    weights += weight.numel()
        found = self._logprobs()
        divergence = (self._expected.exp() * (self._expected - found)).sum(-1).mean()
        same = (self._expected.argmax(-1) == found.argmax(-1)).double().mean()
        surprise = -found[:, :-1].gather(-1, self._ids[:, 1:, None]).mean()
        return (
            f"{candidate.name:38} {bits / weights:5.2f}  KL {divergence:.4f}  "
            f"same next token {100 * same:.1f} %  perplexity {surprise.exp():.2f}"
        )

    def _logprobs(self) -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = self._model(self._ids).logits
        return logits.double().log_softmax(-1)

    @torch.no_grad()
    def _rotate(self) -> None:
        model, size = self._model.model, self._model.config.hidden_size
        random = torch.Generator().manual_seed(SEED)
        square = torch.randn(size, size, generator=random, dtype=torch.float64)
        turn = torch.linalg.qr(square)[0].float()
        for layer in model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            reads = (attention.q_proj, attention.k_proj, attention.v_proj)
            _turn_inputs(reads, layer.input_layernorm, turn)
            _turn_inputs((mlp.gate_proj, mlp.up_proj), layer.post_attention_layernorm, turn)
            for out in (attention.o_proj, mlp.down_proj):
                out.weight.copy_(turn.T @ out.weight)
        _turn_inputs((self._model.lm_head,), model.norm, turn)
        table = model.embed_tokens
        table.weight = torch.nn.Parameter(table.weight @ turn)


def _turn_inputs(
    layers: tuple[torch.nn.Linear, ...], norm: torch.nn.Module, turn: torch.Tensor
) -> None:
    """Turn what layers read, behind a norm whose weight goes into them."""
    weight: torch.Tensor = norm.weight  # type: ignore[assignment]
    for layer in layers:
        layer.weight.copy_((layer.weight * weight) @ turn)
    weight.fill_(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="a Llama in Hugging Face's layout")
    parser.add_argument("text", type=Path, help="a text file")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--rotate", action="store_true")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    subject = Subject(arguments.source, arguments.text, arguments.tokens, arguments.rotate)
    for candidate in CANDIDATES:
        print(subject.measure(candidate), flush=True)


if __name__ == "__main__":
    main()
