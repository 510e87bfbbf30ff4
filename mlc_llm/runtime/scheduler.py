"""Many answers on one model: which tokens are computed next.

Each step reads a chunk of the prompts that wait, in the order in which they came, and then decodes
one token of every answer that is being written, all in one pass. What a token's logits are depends
on the tokens before it alone, so nothing of this changes an answer.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from mlc_llm.runtime.generation import Generation
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.runtime.page_pool import OutOfPages
from mlc_llm.runtime.reading_pace import ReadingPace
from mlc_llm.runtime.sequence import Run, common_length


class Scheduler:
    """The answers that a model is asked for; to be used in the engine thread.

    Args:
        model: the model.
    """

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._waiting: deque[Generation] = deque()
        self._reading: Generation | None = None
        self._writing: list[Generation] = []
        self._pace = ReadingPace(model.window.chunk)

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
        if self._reading or any(not answer.outbox.is_full for answer in self._writing):
            return True
        # Those that write are held up by their readers, and might have all the pages.
        return bool(self._waiting) or any(answer.cancelled for answer in self._writing)

    def step(self) -> None:
        """Read a chunk of prompts, and write a token of each answer."""
        self._drop_cancelled()
        self._read()
        self._write()

    def fail(self, error: BaseException) -> None:
        """End all answers with an error."""
        for generation in self._all():
            self._leave(generation)
            generation.fail(error)

    def _drop_cancelled(self) -> None:
        for generation in self._all():
            if generation.cancelled:
                self._leave(generation)

    def _read(self) -> None:
        """Compute the next chunk of the prompts; what is read to its end is written from now on."""
        phase, parts = self._next_parts()
        if not parts:
            return
        model = self._model
        compute = model.functions.replay if phase else model.functions.prefill
        begin = time.perf_counter()
        try:
            compute([Run(generation.held, tokens) for generation, tokens in parts])
        except OutOfPages:
            self._put_off()
            return
        except Exception as error:
            self._failed([generation for generation, _ in parts], error)
            return
        seconds = time.perf_counter() - begin
        self._pace.read(sum(len(tokens) for _, tokens in parts), seconds)
        for generation, tokens in parts:
            generation.was_read(len(tokens), seconds)
            model.cache.remember(generation.held)

    def _next_parts(self) -> tuple[int, list[tuple[Generation, Sequence[int]]]]:
        """What is read in this step: tokens of one phase, and that phase."""
        parts: list[tuple[Generation, Sequence[int]]] = []
        phase, room = 0, self._pace.room(bool(self._writing))
        while room and (generation := self._reading or self._admit(parts)) is not None:
            self._reading = generation
            if generation.unread:
                wanted, tokens = generation.next_part(room)
                if parts and wanted != phase:
                    break
                phase = wanted
                parts.append((generation, tokens))
                room -= len(tokens)
                if len(tokens) < generation.unread:
                    break
            self._reading = None
            self._writing.append(generation)
        return phase, parts

    def _admit(self, parts: list[tuple[Generation, Sequence[int]]]) -> Generation | None:
        """Take up the answer that waits longest, if there is room for it.

        Args:
            parts: what is read in this step already.
        """
        cache = self._model.cache
        if not self._waiting or not cache.has_row:
            return None
        generation = self._waiting[0]
        if any(self._will_share(generation, other) for other, _ in parts):
            return None
        sequence = cache.add()
        try:
            cache.attach(sequence, generation.ids[:-1], generation.phases)
        except Exception as error:
            cache.remove(sequence)
            self._failed([generation], error)
            return None
        # Each of those that write may soon need a page more.
        spare = len(self._writing)
        if spare and not cache.fits(sequence, len(generation.ids), spare):
            cache.remove(sequence)
            return None
        generation.start(sequence)
        return self._waiting.popleft()

    def _will_share(self, generation: Generation, other: Generation) -> bool:
        """Whether a prompt can find much of what is computed for another in this step."""
        ids, phases, cache = generation.ids[:-1], generation.phases, self._model.cache
        common = common_length(ids, phases, other.ids[:-1], other.phases)
        return common - cache.count(ids, phases) >= cache.geometry.page_size

    def _write(self) -> None:
        """Decode a token of each answer that is being written."""
        while True:
            ready = [one for one in self._writing if not (one.unread or one.outbox.is_full)]
            if not ready:
                return
            begin = time.perf_counter()
            try:
                logits = self._model.functions.decode([one.run for one in ready])
            except OutOfPages:
                self._put_off()
                continue
            except Exception as error:
                self._failed(ready, error)
                return
            break
        decoded = time.perf_counter() - begin
        first = [not one.generated for one in ready]
        for generation, row in zip(ready, logits, strict=True):
            try:
                generation.advance(row)
            except Exception as error:
                self._failed([generation], error)
        seconds = time.perf_counter() - begin
        self._pace.wrote(seconds)
        for generation, is_first in zip(ready, first, strict=True):
            if is_first:
                generation.metrics.prefill.add(1, decoded)
            else:
                generation.metrics.decode.add(1, seconds)
            if generation.finished:
                self._leave(generation)

    def _put_off(self) -> None:
        """Take the pages of the answer that came last; it goes on when there are some again."""
        last = self._reading or self._writing[-1]
        self._leave(last)
        last.outbox.flush()
        self._waiting.appendleft(last)

    def _failed(self, generations: Sequence[Generation], error: Exception) -> None:
        for generation in generations:
            self._leave(generation)
            generation.fail(error)

    def _leave(self, generation: Generation) -> None:
        """Have an answer out of all lines; what it holds can be found as long as there is room."""
        if generation in self._waiting:
            self._waiting.remove(generation)
        if generation is self._reading:
            self._reading = None
        if generation in self._writing:
            self._writing.remove(generation)
        sequence, generation.sequence = generation.sequence, None
        if sequence is not None:
            self._model.cache.remember(sequence, partial=True)
            self._model.cache.remove(sequence)

    def _all(self) -> list[Generation]:
        reading = [] if self._reading is None else [self._reading]
        return [*self._writing, *reading, *self._waiting]
