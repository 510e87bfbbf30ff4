"""Many answers on one model: which tokens are computed next.

Each step reads a chunk of the prompts that wait, in the order in which they came, and then decodes
one token of every answer that is being written, all in one pass. What a token's logits are depends
on the tokens before it alone, so nothing of this changes an answer.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from mlc_llm.runtime.generation import Floats, Generation
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.runtime.lost_device import losses_reported
from mlc_llm.runtime.page_pool import OutOfPages
from mlc_llm.runtime.reading_pace import ReadingPace
from mlc_llm.runtime.sequence import Run, common_length

Part = tuple[Generation, Sequence[int]]
"""Tokens of an answer that are read in a step."""


class Scheduler:
    """The answers that a model is asked for; to be used in the engine thread.

    Args:
        model: the model.
    """

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        # An answer waits, then its prompt is read, then it is written.
        self._waiting: deque[Generation] = deque()
        self._reading: list[Generation] = []
        self._writing: list[Generation] = []
        self._pace = ReadingPace()
        # Whether the first that waits did not fit, and no answer has left since.
        self._is_full = False

    def add(self, generation: Generation) -> None:
        """Put an answer in the line; if it cannot be given, it fails."""
        try:
            generation.begin(self._model.window, self._model.metadata.deterministic)
            self._model.check_prompt(generation.ids)
        except Exception as error:
            generation.fail(error)
        else:
            self._waiting.append(generation)

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        if self._reading or self._waiting:
            return True
        return any(one.cancelled or not one.sink.is_full for one in self._writing)

    def step(self) -> None:
        """Read a chunk of prompts, and write a token of each answer."""
        for generation in self._all():
            if generation.cancelled:
                self._leave(generation)
        self._read()
        self._write()

    def fail(self, error: BaseException) -> None:
        """End all answers with an error."""
        self._fail(self._all(), error)

    def _read(self) -> None:
        """Compute the next chunk of the prompts; what is read to its end is written from now on."""
        phase, parts = self._next_parts()
        if not parts:
            return
        functions, cache = self._model.functions, self._model.cache
        compute = functions.replay if phase else functions.prefill
        begin = time.perf_counter()
        try:
            compute([Run(generation.held, tokens) for generation, tokens in parts])
        except OutOfPages as error:
            self._put_off(self._reading[-1], error)
            return
        except Exception as error:
            self._fail([generation for generation, _ in parts], error)
            return
        seconds = time.perf_counter() - begin
        self._pace.read(sum(len(tokens) for _, tokens in parts), seconds)
        for generation, tokens in parts:
            generation.was_read(len(tokens), seconds)
            cache.remember(generation.held)
            if not generation.unread:
                self._reading.remove(generation)
                self._writing.append(generation)

    def _next_parts(self) -> tuple[int, list[Part]]:
        """What is read in this step: tokens of one phase, and that phase."""
        parts: list[Part] = []
        chunk = self._model.window.chunk
        phase, room = 0, self._pace.room(chunk) if self._writing else chunk
        while room:
            begun = len(parts) < len(self._reading)
            generation = self._reading[len(parts)] if begun else self._admit(parts)
            if generation is None:
                break
            wanted, tokens = generation.next_part(room)
            if parts and wanted != phase:
                break
            phase = wanted
            parts.append((generation, tokens))
            room -= len(tokens)
        return phase, parts

    def _admit(self, parts: Sequence[Part]) -> Generation | None:
        """Take up answers that wait, up to one that has something to read.

        Args:
            parts: what is read in this step already.
        """
        cache = self._model.cache
        while self._waiting and cache.has_row and not self._is_full:
            generation = self._waiting[0]
            if parts and self._will_share(generation, parts):
                return None
            sequence = cache.add()
            try:
                with losses_reported(self._model.device):
                    cache.attach(sequence, generation.ids[:-1], generation.phases)
            except Exception as error:
                cache.remove(sequence)
                self._fail([generation], error)
                continue
            # Each of those that are served may soon need a page more.
            others = len(self._writing) + len(self._reading)
            if others and not cache.fits(sequence, len(generation.ids), spare=others):
                cache.remove(sequence)
                self._is_full = True
                return None
            self._waiting.popleft()
            generation.start(sequence)
            if generation.unread:
                self._reading.append(generation)
                return generation
            self._writing.append(generation)
        return None

    def _will_share(self, generation: Generation, parts: Sequence[Part]) -> bool:
        """Whether a prompt can find much of what is computed for others in this step."""
        ids, phases, cache = generation.ids[:-1], generation.phases, self._model.cache
        common = max(common_length(ids, phases, other.ids[:-1], other.phases) for other, _ in parts)
        return common - cache.count(ids, phases) >= cache.geometry.page_size

    def _write(self) -> None:
        """Decode a token of each answer that is being written, or some where they are guessed."""
        ready = [one for one in self._writing if not one.sink.is_full]
        if not ready:
            return
        begin = time.perf_counter()
        most = max(1, self._model.window.rows // len(ready))
        runs = [generation.next_run(most) for generation in ready]
        try:
            logits = self._model.functions.decode(runs)
        except OutOfPages as error:
            self._put_off((self._reading or self._writing)[-1], error)
            return
        except Exception as error:
            self._fail(ready, error)
            return
        decoded, row = time.perf_counter() - begin, 0
        first = [not generation.generated for generation in ready]
        written = []
        for generation, run in zip(ready, runs, strict=True):
            rows = logits[row : row + len(run.tokens)]
            row += len(run.tokens)
            written.append(self._advance(generation, rows))
        seconds = time.perf_counter() - begin
        self._pace.wrote(seconds)
        for generation, count, is_first in zip(ready, written, first, strict=True):
            if is_first:
                generation.metrics.prefill.add(1, decoded)
                generation.metrics.decode.add(max(0, count - 1), 0.0)
            else:
                generation.metrics.decode.add(count, seconds)

    def _advance(self, generation: Generation, logits: Floats) -> int:
        """Write what the logits say; returns of how many tokens."""
        try:
            count = generation.advance(logits)
        except Exception as error:
            self._fail([generation], error)
            return 0
        if generation.finished:
            self._leave(generation)
        return count

    def _put_off(self, generation: Generation, error: OutOfPages) -> None:
        """Take the pages of an answer, which goes on when there are some again."""
        if len(self._writing) + len(self._reading) == 1:  # There would never be more.
            self._fail([generation], error)
            return
        self._leave(generation)
        generation.sink.flush()
        self._waiting.appendleft(generation)

    def _fail(self, generations: Sequence[Generation], error: BaseException) -> None:
        for generation in generations:
            self._leave(generation)
            generation.fail(error)

    def _leave(self, generation: Generation) -> None:
        """Have an answer out of its line; what it holds can be found as long as there is room."""
        for line in (self._waiting, self._reading, self._writing):
            if generation in line:
                line.remove(generation)
        self._is_full = False
        sequence, generation.sequence = generation.sequence, None
        if sequence is not None:
            self._model.cache.recycle(sequence)

    def _all(self) -> list[Generation]:
        return [*self._writing, *self._reading, *self._waiting]
