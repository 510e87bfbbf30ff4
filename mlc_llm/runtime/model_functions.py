"""The functions of a compiled model with its weights: token ids in, NumPy arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from mlc_llm.errors import GenerationError, MLCError
from mlc_llm.runtime.captured_pass import Capture, CapturedPass, no_capture
from mlc_llm.runtime.compiled_library import CompiledLibrary
from mlc_llm.runtime.device_memory import on_host
from mlc_llm.runtime.kv_cache import KVCache
from mlc_llm.runtime.lost_device import holds_memory_of, loss, losses_reported
from mlc_llm.runtime.sequence import DECODED, PREFILLED, Run

if TYPE_CHECKING:
    import tvm

PASSES = ("prefill", "replay", "score", "decode", "batch_decode")


def check_functions(library: CompiledLibrary) -> None:
    """Check that a library has what :class:`ModelFunctions` calls.

    Raises:
        LibraryError: it lacks a function.
    """
    for name in ("embed", *PASSES):
        library.function(name)


class ModelFunctions:
    """What a library computes; what it remembers of tokens is in a :class:`KVCache`.

    Args:
        library: the opened library.
        parameters: the weights, in the order that its functions take. The library holds on to them.
        device: where they are.
        vocab_size: how many tokens have logits.
        capture: captures the pass of a single token.

    Raises:
        LibraryError: the library lacks a function.
    """

    def __init__(
        self,
        library: CompiledLibrary,
        parameters: Any,
        device: tvm.runtime.Device,
        vocab_size: int,
        capture: Capture = no_capture,
    ) -> None:
        self._library, self._parameters = library, parameters
        self._embed = library.bound("embed", parameters)
        self._vocab_size = vocab_size
        self._device = device
        self._input = _TokenInput(device)
        self._on_host = on_host(device)
        self._capture = capture
        self._passes: dict[str, Any] = {}
        holds_memory_of(self, device)

    def use(self, cache: KVCache) -> None:
        """Compute with this cache from now on."""
        self._cache = cache
        self._passes = {
            name: self._library.bound(name, *cache.pages, *self._parameters) for name in PASSES
        }
        # Its arguments are always the same tensors, which are written to before each call.
        if not self._on_host and self._capture is not no_capture:
            decode = self._passes["decode"]
            self._passes["decode"] = CapturedPass(decode, self._library, self._capture)

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """The embeddings of tokens: float32 of shape (len(ids), hidden size)."""
        try:
            return self._embed(self._input.tensor(ids)).numpy().astype(np.float32)
        except Exception as error:
            raise self._failed("embed", error) from error

    def prefill(self, runs: Sequence[Run]) -> None:
        """Append tokens of prompts.

        Args:
            runs: the tokens; those of one sequence stand together.

        Raises:
            GenerationError: the function failed; nothing was appended.
            DeviceError: the device is lost.
        """
        self._pass("prefill", runs, PREFILLED, has_logits=False)

    def replay(self, runs: Sequence[Run]) -> None:
        """Append tokens as :meth:`decode` does, many at a time and without logits.

        Keys and values of generated tokens that were lost become what they were.

        Args:
            runs: the tokens; those of one sequence stand together.

        Raises:
            GenerationError: the function failed; nothing was appended.
            DeviceError: the device is lost.
        """
        self._pass("replay", runs, DECODED, has_logits=False)

    def score(self, runs: Sequence[Run], rows: Sequence[int]) -> np.ndarray:
        """Append tokens of prompts; the logits after some of them.

        Args:
            runs: the tokens; those of one sequence stand together.
            rows: which of all tokens, counted from 0.

        Returns:
            float32 of shape (len(rows), vocab_size).

        Raises:
            GenerationError: the function failed; nothing was appended.
            DeviceError: the device is lost.
        """
        from tvm.runtime import tensor

        with losses_reported(self._device):
            wanted = tensor(np.asarray(rows, np.int32), self._device)
        return self._pass("score", runs, PREFILLED, wanted)

    def decode(self, runs: Sequence[Run]) -> np.ndarray:
        """Append generated tokens, or the last tokens of prompts; the logits after each.

        Args:
            runs: the tokens; one for each sequence, or several.

        Returns:
            float32 of shape (number of tokens, vocab_size).

        Raises:
            GenerationError: the function failed; nothing was appended.
            DeviceError: the device is lost.
        """
        single = len(runs) == 1 and len(runs[0].tokens) == 1
        name = "decode" if single else "batch_decode"
        return self._pass(name, runs, DECODED)

    def _pass(
        self, name: str, runs: Sequence[Run], phase: int, *more: Any, has_logits: bool = True
    ) -> Any:
        """Compute one pass, and note what it appended; returns the logits if it has any."""
        ids = runs[0].tokens if len(runs) == 1 else [*chain.from_iterable(r.tokens for r in runs)]
        try:
            tables = self._cache.prepare(runs, starts=phase == PREFILLED)
            result = self._passes[name](self._input.tensor(ids), *more, *tables)
            logits = self._host_view(result) if has_logits else None
        except GenerationError:
            raise
        except Exception as error:
            raise self._failed(name, error) from error
        if self._library.metadata.deterministic:
            phase = PREFILLED  # There both compute alike.
        for sequence, tokens in runs:
            sequence.extend(tokens, phase)
        return logits

    def _host_view(self, logits: Any) -> np.ndarray:
        """Logits without the padding of the vocabulary; not copied when they are on the host."""
        array = np.from_dlpack(logits) if self._on_host else logits.numpy()
        return array[:, : self._vocab_size]

    def _failed(self, name: str, error: Exception) -> MLCError:
        """Our error for what TVM raised; it names the library's function."""
        lost = loss(self._device, error)
        return lost or GenerationError(f"The model's function {name!r} failed: {error}")


class _TokenInput:
    """Makes tensors of token ids.

    Decoding passes one token after another; they all use one tensor, which costs a tenth of a new
    one. So what is made of a single token is valid until the next one comes.

    Args:
        device: where the tensors are.
    """

    def __init__(self, device: tvm.runtime.Device) -> None:
        from tvm.runtime import empty

        self._device = device
        self._single = empty((1,), "int32", device)
        self._on_host = on_host(device)
        self._value = np.from_dlpack(self._single) if self._on_host else np.empty(1, np.int32)

    def tensor(self, ids: Sequence[int]) -> Any:
        """The ids as a tensor (len(ids),) of int32."""
        if len(ids) == 1:
            self._value[0] = ids[0]
            return self._single if self._on_host else self._single.copyfrom(self._value)
        from tvm.runtime import tensor

        return tensor(np.asarray(ids, dtype=np.int32), self._device)
