"""What an engine has done so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlc_llm.engine.running_request import Outcome
from mlc_llm.runtime.statistics import Metrics


@dataclass
class EngineMetrics:
    """What an engine has done since it was made. Tokens are counted when their request ends.

    Args:
        running_requests: requests that are being answered, or wait for it.
        finished_requests: requests whose answers are complete.
        aborted_requests: those that were aborted, or whose reader went away.
        failed_requests: those that ended with an error.
        prompt_tokens: tokens of the prompts, once a request.
        prefilled_tokens: tokens of prompts that the model read; the others were in its cache.
        completion_tokens: tokens of the answers.
        speed: tokens and seconds of reading prompts and of writing answers.
    """

    running_requests: int = 0
    finished_requests: int = 0
    aborted_requests: int = 0
    failed_requests: int = 0
    prompt_tokens: int = 0
    prefilled_tokens: int = 0
    completion_tokens: int = 0
    speed: Metrics = field(default_factory=Metrics)

    def count(self, outcome: Outcome, prompt: int, prefilled: int, completion: int) -> None:
        """Count a request that has ended, and its tokens."""
        self.finished_requests += outcome == "finished"
        self.aborted_requests += outcome == "aborted"
        self.failed_requests += outcome == "failed"
        self.prompt_tokens += prompt
        self.prefilled_tokens += prefilled
        self.completion_tokens += completion
