"""Log-probabilities, against a float64 softmax."""

from __future__ import annotations

import hypothesis
import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlc_llm.runtime.logprobs import LogprobRecorder

LOGITS = hnp.arrays(
    np.float32,
    st.integers(1, 3000),
    elements=st.floats(-80, 80, width=32) | st.just(float("-inf")),
).filter(lambda logits: bool(np.isfinite(logits).any()))


@hypothesis.given(LOGITS, st.integers(0, 20), st.integers(0, 2999))
def test_against_numpy(logits: npt.NDArray[np.float32], count: int, token: int) -> None:
    token %= logits.size
    wide = logits.astype(np.float64)
    expected = wide - wide.max() - np.log(np.exp(wide - wide.max()).sum())
    recorded = LogprobRecorder(count, lambda token: f"<{token}>").record(logits, token)
    assert (recorded.token_id, recorded.text) == (token, f"<{token}>")
    np.testing.assert_allclose(recorded.logprob, expected[token], rtol=1e-5, atol=1e-5)
    likeliest = np.argsort(-logits, kind="stable")[:count].tolist()
    assert [other.token_id for other in recorded.top] == likeliest
    np.testing.assert_allclose(
        [other.logprob for other in recorded.top], expected[likeliest], rtol=1e-5, atol=1e-5
    )
    assert all(other.top == () and other.text == f"<{other.token_id}>" for other in recorded.top)
