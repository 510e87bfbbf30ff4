"""Generating one answer: a generator on top of a generator.

:func:`token_steps` runs the model and samples; :func:`generate` turns its tokens into text. Both
touch TVM and run in the engine thread. Closing either of them between two steps cancels the
generation and leaves the model usable; its KV cache then holds what was fed so far.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from mlc_llm.runtime.answer import Delta, Ending, Limit
from mlc_llm.tokenizer import Detokenizer, PromptTokens
from mlc_llm.tokenizer.stop import StopText

if TYPE_CHECKING:
    from mlc_llm.runtime.loaded_model import LoadedModel
    from mlc_llm.runtime.logprobs import LogprobRecorder
    from mlc_llm.runtime.sampler import Sampler


def generate(
    model: LoadedModel,
    prompt: PromptTokens,
    sampler: Sampler,
    ending: Ending,
    detokenizer: Detokenizer,
    recorder: LogprobRecorder | None = None,
) -> Generator[Delta, None, None]:
    """Answer a prompt.

    Args:
        model: the model; what its KV cache holds of the prompt is not prefilled again.
        prompt: the whole prompt.
        sampler: chooses the tokens; made for this answer.
        ending: when the answer ends.
        detokenizer: turns tokens into text; made for this answer.
        recorder: gives the log-probabilities of the tokens; None for none to be recorded.

    Yields:
        A :class:`Delta` for each prefilled chunk and for each token, then one with the text that
        was held back, if any, and the ``finish_reason``. A stop string ends the answer in the step
        of the token that completes it.

    Raises:
        PromptTooLongError: the prompt does not fit into the context window.
        TokenizerError: a token of the prompt is not in the model's vocabulary.
        GenerationError: the model failed.
    """
    stop = StopText(ending.stop_strings)
    with closing(token_steps(model, prompt, sampler, ending, recorder)) as steps:
        for step in steps:
            text = "".join(stop.push(detokenizer.push(token)) for token in step.token_ids)
            if step.finish_reason is not None:
                text = stop.push(detokenizer.finish()) + stop.finish()
            if stop.stopped:
                yield replace(step, text=text, finish_reason="stop", limit=None)
                return
            yield replace(step, text=text)


def token_steps(
    model: LoadedModel,
    prompt: PromptTokens,
    sampler: Sampler,
    ending: Ending,
    recorder: LogprobRecorder | None = None,
) -> Generator[Delta, None, None]:
    """Prefill the prompt, then sample and decode token by token.

    Yields a step after each prefilled chunk, one for each token, and one that says why it ended.
    """
    begin = time.perf_counter()
    for count in model.feed_steps(prompt.ids, prompt.generated):
        yield Delta(prefilled=count)
    token = sampler.sample(model.logits)
    model.metrics.time_to_first_token = time.perf_counter() - begin
    generated = 0
    limit: Limit | None = None
    while token not in ending.stop_ids:
        recorded = () if recorder is None else (recorder.record(model.logits, token),)
        yield Delta(token_ids=(token,), logprobs=recorded)
        generated += 1
        if generated >= ending.max_tokens:
            limit = "max_gen_len"
        elif model.length >= model.window.size:
            limit = "context_window"
        if limit is not None:
            break
        with model.metrics.decode.measure() as phase:
            token = sampler.sample(model.decode(token))
            phase.tokens += 1
    yield Delta(finish_reason="stop" if limit is None else "length", limit=limit)
