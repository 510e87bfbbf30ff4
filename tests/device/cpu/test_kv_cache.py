"""Moving keys and values in the paged cache against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from mlc_llm.device.cpu.kernels.kv_cache import (
    compact_kv_copy,
    copy_single_page,
    debug_get_kv,
    transpose_append,
)

PAGE = 16


def slots(pages, which):
    """A view (slots, heads, d) copy of the keys (0) or values (1)."""
    return pages[:, which].transpose(0, 2, 1, 3).reshape(-1, pages.shape[2], pages.shape[4])


@pytest.mark.parametrize("head_dim", [8, 24, 64])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_append_and_read_back(machine, rng, head_dim, dtype):
    heads, layers = 3, 2
    pages = np.zeros((4, 2, heads, PAGE, head_dim), dtype)
    k, v = (rng.standard_normal((5, heads, head_dim)).astype(dtype) for _ in range(2))
    where = np.array([15, 16, -1, 63, 0], "int32")
    machine(transpose_append(heads, head_dim, dtype), pages, k, v, where)
    written = where[where >= 0]
    np.testing.assert_array_equal(slots(pages, 0)[written], k[where >= 0])
    np.testing.assert_array_equal(slots(pages, 1)[written], v[where >= 0])
    assert np.count_nonzero(np.abs(slots(pages, 0)).sum((1, 2))) == len(written)

    out_k, out_v = (np.zeros((layers, len(written), heads, head_dim), dtype) for _ in range(2))
    machine(debug_get_kv(layers, heads, head_dim, dtype), pages, written, out_k, out_v, 1)
    np.testing.assert_array_equal(out_k[1], k[where >= 0])
    np.testing.assert_array_equal(out_v[1], v[where >= 0])
    assert not out_k[0].any()


def test_copy_single_page(best, rng):
    pages = rng.standard_normal((3, 2, 2, PAGE, 8)).astype("float32")
    expected = pages.copy()
    expected[2, :, :, :5] = pages[0, :, :, :5]
    best(copy_single_page(2, 8, "float32"), pages, 0, 2, 5)
    np.testing.assert_array_equal(pages, expected)


def test_compact_copies_in_order(best, rng):
    pages = rng.standard_normal((3, 2, 2, PAGE, 8)).astype("float32")
    moves = np.array([[20, 21, 33, 40], [18, 20, 30, 33]], "int32")
    expected = pages.copy()
    for source, target in moves.T:
        a, b = divmod(source, PAGE), divmod(target, PAGE)
        expected[b[0], :, :, b[1]] = expected[a[0], :, :, a[1]]
    best(compact_kv_copy(2, 8, "float32"), pages, np.array([0, 2, 4], "int32"), moves, 2)
    np.testing.assert_array_equal(pages, expected)
