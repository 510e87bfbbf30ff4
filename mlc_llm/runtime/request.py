"""What is asked of a model: a prompt, how its answer is chosen, and when it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlc_llm.runtime.answer import Ending
from mlc_llm.runtime.constraint import OutputGrammar
from mlc_llm.runtime.sampler import SamplingSettings
from mlc_llm.tokenizer import PromptTokens


@dataclass(frozen=True)
class Request:
    """One answer that is wanted.

    Args:
        prompt: the whole prompt.
        ending: when the answer ends.
        sampling: how its tokens are chosen.
        seed: makes the choices reproducible; None draws one from the operating system.
        logprobs: record each token's log-probability, and those of that many likeliest ones; None
            for none.
        continues: whether the answer continues the prompt's text, so that a leading space stays.
        grammar: what the answer must match; None for anything.
        proposes: whether to guess tokens from the context, and check them in one pass; this changes
            the speed, and not the answer.
    """

    prompt: PromptTokens
    ending: Ending
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    seed: int | None = None
    logprobs: int | None = None
    continues: bool = False
    grammar: OutputGrammar | None = None
    proposes: bool = False
