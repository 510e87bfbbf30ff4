"""A compiled model with its weights and its KV cache, ready to run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from mlc_llm.errors import GenerationError, PromptTooLongError, SavedChatError, TokenizerError
from mlc_llm.runtime.cache_file import CacheFile, write_cache_file
from mlc_llm.runtime.captured_pass import Capture, no_capture
from mlc_llm.runtime.compiled_library import CompiledLibrary
from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.runtime.engine import Stop
from mlc_llm.runtime.identity import Identity, ModelFiles
from mlc_llm.runtime.kv_cache import KVCache
from mlc_llm.runtime.lost_device import losses_reported
from mlc_llm.runtime.model_functions import ModelFunctions, check_functions
from mlc_llm.runtime.parameters import check_parameters, load_parameters
from mlc_llm.runtime.sequence import (
    CachedSequence,
    Run,
    common_length,
    phase_runs,
    prompt_phases,
)
from mlc_llm.runtime.statistics import Metrics
from mlc_llm.runtime.threads import use_threads
from mlc_llm.weights.folder import ModelFolder, manifest_path
from mlc_llm.weights.locate import model_name

if TYPE_CHECKING:
    import tvm


class LoadedModel:
    """A model, and a KV cache for the sequences of all answers.

    One sequence is the model's own: :meth:`feed`, :meth:`decode` and their like change it, to
    measure and to compare. Answers have theirs from :mod:`mlc_llm.runtime.scheduler`.

    Everything here touches TVM and must run in the model's engine thread. After an error in the
    middle of a pass the cache holds what it held before, and the model can be used as before.

    Attributes:
        functions: what the model computes.
        cache: the KV cache.
        window: its sizes.
    """

    cache: KVCache

    def __init__(
        self,
        library: CompiledLibrary,
        functions: ModelFunctions,
        window: ContextWindow,
        vocab_size: int,
        device: tvm.runtime.Device,
        files: ModelFiles | None = None,
    ) -> None:
        self.library = library
        self.metadata = library.metadata
        self.metrics = Metrics()
        self.vocab_size = vocab_size
        self.device = device
        self.functions = functions
        self._files = files
        self._logits: np.ndarray | None = None
        self.resize(window)

    @classmethod
    def load(
        cls,
        library: Path,
        folder: ModelFolder,
        device: tvm.runtime.Device,
        window: ContextWindow,
        *,
        threads: int | None = None,
        stop: Stop | None = None,
        capture: Capture = no_capture,
    ) -> Self:
        """Open the library, check it against the folder, upload the weights, make the KV cache.

        Args:
            library: the compiled library.
            folder: the model folder.
            device: where the model runs.
            window: the sizes of the KV cache.
            threads: that TVM computes with; None leaves it to the environment.
            stop: looked at between the steps.
            capture: captures the pass of a single token; see ``Device.capture``.

        Raises:
            LibraryError: the library cannot be opened or is not one of ours.
            ModelFolderError: the weights do not fit the library.
        """
        use_threads(threads)
        compiled = CompiledLibrary(library, device)
        check_functions(compiled)
        check_parameters(compiled.metadata.params, folder, f"the library {library}")
        parameters = load_parameters(compiled, folder, device, stop)
        vocab_size = folder.config.usable_vocab_size
        functions = ModelFunctions(compiled, parameters, device, vocab_size, capture)
        files = ModelFiles(model_name(folder.path), library, manifest_path(folder.path))
        return cls(compiled, functions, window, vocab_size, device, files)

    def resize(self, window: ContextWindow) -> None:
        """Make a new, empty KV cache of other sizes; if that fails, the old one stays."""
        with losses_reported(self.device):
            cache = KVCache(
                self.metadata.kv_cache,
                window.size,
                window.rows,
                self.device,
                window.sequences + 1,  # the model's own
                window.total,
                window.recycled,
            )
            self.functions.use(cache)
        self.cache = cache
        self.window = window
        self._sequence = cache.add()
        self._logits = None

    @property
    def tokens(self) -> tuple[int, ...]:
        """The tokens of the model's own sequence."""
        return tuple(self._sequence.tokens)

    @property
    def length(self) -> int:
        """How many they are."""
        return len(self._sequence)

    @property
    def logits(self) -> np.ndarray:
        """The logits after the last token: float32 of shape (vocab_size,), not to be written to.

        Raises:
            GenerationError: there are none, because the last token was popped or nothing was fed.
        """
        if self._logits is None:
            raise GenerationError("The model has no logits: nothing was fed since the last change.")
        return self._logits

    def feed(self, ids: Sequence[int], generated: Iterable[range] = ()) -> np.ndarray:
        """Make the model's own sequence exactly ``ids``, computing only what it lacks.

        Args:
            ids: the tokens.
            generated: where tokens stand among them that the model generated.

        Returns:
            The logits after the last of them; see :attr:`logits`.

        Raises:
            PromptTooLongError: there are more than the window takes.
            TokenizerError: one of them is not a token of this model.
            GenerationError: the pass failed.
        """
        for _ in self.feed_steps(ids, generated):
            pass
        return self.logits

    def feed_steps(self, ids: Sequence[int], generated: Iterable[range] = ()) -> Iterator[int]:
        """Like :meth:`feed`, a chunk at a time; yields how many tokens each chunk had."""
        self._check(ids, len(ids))
        phases = self._phases(len(ids), generated)
        # Logits exist only for a token that is computed now.
        held = self._sequence
        kept = min(common_length(held.tokens, held.phases, ids, phases), len(ids) - 1)
        self.pop(self.length - kept)
        kept = self.length
        yield from self._append(ids[kept:], phases[kept:])

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        """Append ``ids`` to it as a prompt; returns the logits after the last one.

        Raises:
            PromptTooLongError: the window would overflow; nothing was appended.
            TokenizerError: one of them is not a token of this model; nothing was appended.
            GenerationError: the pass failed.
        """
        for _ in self.prefill_steps(ids):
            pass
        return self.logits

    def prefill_steps(self, ids: Sequence[int]) -> Iterator[int]:
        """Like :meth:`prefill`, a chunk at a time; yields how many tokens each chunk had."""
        self._check(ids, self.length + len(ids))
        yield from self._append(ids, self._phases(len(ids)))

    def decode(self, token: int) -> np.ndarray:
        """Append one token; returns the logits after it.

        Raises:
            PromptTooLongError: the window is full.
            TokenizerError: it is not a token of this model.
            GenerationError: the pass failed.
        """
        self._check([token], self.length + 1)
        self._decode(token)
        return self.logits

    def score(self, ids: Sequence[int]) -> np.ndarray:
        """Append ``ids`` to it as a prompt, in one pass; the logits after each of them.

        Args:
            ids: no more than a prefill's chunk.

        Returns:
            float32 of shape (len(ids), vocab_size), not to be written to.

        Raises:
            PromptTooLongError: the window would overflow; nothing was appended.
            TokenizerError: one of them is not a token of this model; nothing was appended.
            GenerationError: the pass failed.
        """
        self._check(ids, self.length + len(ids))
        self._logits = None
        return self.functions.score([Run(self._sequence, ids)], range(len(ids)))

    def pop(self, count: int) -> None:
        """Forget the last ``count`` tokens.

        Raises:
            ValueError: there are not that many.
        """
        if not 0 <= count <= self.length:
            raise ValueError(f"cannot pop {count} of {self.length} tokens")
        if count:
            self._sequence.truncate(self.length - count)
            self._logits = None

    def reset(self) -> None:
        """Empty the KV cache but for what answers use: the model's own, and what could be found."""
        self.pop(self.length)
        self.cache.forget()

    def save(
        self,
        path: Path,
        ids: Sequence[int] | None = None,
        generated: Iterable[range] = (),
        stop: Stop | None = None,
    ) -> int:
        """Write keys and values that the cache holds to a file, for :meth:`restore`.

        Args:
            path: the file; one that is there is replaced.
            ids: a prompt, of which all that is held is written; None for the model's own sequence.
            generated: where tokens stand among them that the model generated.
            stop: looked at between the layers.

        Returns:
            Of how many tokens; when there are none, no file is written.

        Raises:
            SavedChatError: the file cannot be written; what was there stays.
        """
        with self._found(ids, generated) as held:
            if count := len(held):
                with losses_reported(self.device):
                    write_cache_file(path, self._identity, self.cache, held, count, stop)
        return count

    def restore(
        self,
        path: Path,
        ids: Sequence[int] | None = None,
        generated: Iterable[range] = (),
        stop: Stop | None = None,
    ) -> int:
        """Make the cache hold what :meth:`save` wrote to a file.

        Args:
            path: the file.
            ids: a prompt: only what it begins with is restored, for answers to it. None for all
                tokens, which the model's own sequence becomes.
            generated: where tokens stand among them that the model generated.
            stop: looked at between the layers.

        Returns:
            Of how many tokens; when there are none, the cache stays as it was.

        Raises:
            SavedChatError: the file cannot be read, is damaged, or belongs to another model; the
                cache is as it was, or empty.
        """
        cache, identity = self.cache, self._identity
        with CacheFile.open(path, identity, cache.geometry, self.window.size) as file:
            if not all(0 <= token < self.vocab_size for token in file.tokens):
                raise SavedChatError(
                    f"{path} has tokens that are not in the model's vocabulary of "
                    f"{self.vocab_size}. Delete it, and save the conversation again.",
                    code="cache-damaged",
                )
            count = len(file.tokens)
            if ids is not None:
                phases = self._phases(len(ids), generated)
                count = common_length(file.tokens, file.phases, ids, phases)
            if count:
                with losses_reported(self.device), self._replaced(ids is None) as sequence:
                    file.restore(cache, sequence, count, stop)
        return count

    @contextmanager
    def _found(
        self, ids: Sequence[int] | None, generated: Iterable[range]
    ) -> Iterator[CachedSequence]:
        """What is held of a prompt, or the model's own sequence."""
        if ids is None:
            yield self._sequence
            return
        sequence = self.cache.add()
        try:
            self.cache.attach(sequence, ids, self._phases(len(ids), generated))
            yield sequence
        finally:
            self.cache.remove(sequence)

    @contextmanager
    def _replaced(self, own: bool) -> Iterator[CachedSequence]:
        """A sequence to restore: the model's own, or one that is remembered afterwards."""
        if own:
            self._logits = None
            yield self._sequence
            return
        sequence = self.cache.add()
        try:
            yield sequence
        finally:
            self.cache.recycle(sequence)

    @property
    def _identity(self) -> Identity:
        if self._files is None:
            raise ValueError("the model was not loaded from files that would identify it")
        return self._files.identity

    def reset_metrics(self) -> None:
        """Set all measurements back to zero."""
        self.metrics.reset()

    def release(self) -> None:
        """Let go of the weights and the cache; the model cannot be used any more."""
        self._logits = None
        del self.functions, self.cache, self._sequence, self.library

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """The embeddings of tokens: float32 of shape (len(ids), hidden size).

        Raises:
            TokenizerError: one of them is not a token of this model.
        """
        self._check(ids, len(ids))
        return self.functions.embed(ids)

    def _phases(self, length: int, generated: Iterable[range] = ()) -> bytearray:
        """The phase that each token of a prompt is computed in."""
        # There the phases compute alike, and each token counts as one of a prompt.
        return (
            bytearray(length) if self.metadata.deterministic else prompt_phases(length, generated)
        )

    def _append(self, ids: Sequence[int], phases: Sequence[int]) -> Iterator[int]:
        """Compute tokens in their phases, in chunks; the last one gives the logits.

        It counts to the chunk before it: to wake whoever is told takes a core from the model.
        """
        computed = 0
        for phase, chunk in self._chunks(ids[:-1], phases):
            if computed:
                yield computed
            compute = self.functions.replay if phase else self.functions.prefill
            with self.metrics.prefill.measure() as measured:
                self._logits = None
                compute([Run(self._sequence, chunk)])
                computed = len(chunk)
                measured.tokens += computed
        with self.metrics.prefill.measure() as measured:
            self._decode(ids[-1])
            measured.tokens += 1
        yield computed + 1

    def _chunks(
        self, ids: Sequence[int], phases: Sequence[int]
    ) -> Iterator[tuple[int, Sequence[int]]]:
        """Tokens of one phase each, no more than a pass takes."""
        begin = 0
        for phase, count in phase_runs(phases[: len(ids)]):
            end = begin + count
            for first in range(begin, end, self.window.chunk):
                yield phase, ids[first : min(first + self.window.chunk, end)]
            begin = end

    def _decode(self, token: int) -> None:
        self._logits = None
        self._logits = self.functions.decode([Run(self._sequence, (token,))])[0]

    def check_prompt(self, ids: Sequence[int]) -> None:
        """Refuse a prompt that cannot be computed.

        Raises:
            PromptTooLongError: there are more tokens than the window takes.
            TokenizerError: one of them is not a token of this model.
        """
        self._check(ids, len(ids))

    def _check(self, ids: Sequence[int], length: int) -> None:
        """Refuse what the kernels would read beyond their arrays for."""
        if not ids:
            raise ValueError("no tokens were given")
        if min(ids) < 0 or max(ids) >= self.vocab_size:
            wrong = next(token for token in ids if not 0 <= token < self.vocab_size)
            raise TokenizerError(
                f"The token {wrong} is not in the model's vocabulary of {self.vocab_size}. Leave "
                "its text out of the prompt. If every prompt has it, the tokenizer files are "
                "another model's: copy those of this one into its folder.",
                code="token-unknown",
            )
        if length > self.window.size:
            raise PromptTooLongError(
                f"The prompt has {length} tokens, and the context window holds {self.window.size}. "
                "Shorten it, or set a larger ChatConfig(context_window_size=...) if the model can."
            )
