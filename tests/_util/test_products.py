"""Matrix products in pieces, against those in one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from cnatool._util import products
from cnatool._util.products import add_gram, multiply

sides = st.integers(0, 40)


@given(
    m=sides,
    k=sides,
    n=sides,
    stacks=st.sampled_from([((), ()), ((2,), (2,)), ((3, 1), (2,))]),
    piece=st.integers(1, 500),
    depth=st.integers(1, 50),
)
@settings(max_examples=60, deadline=None)
def test_products_in_pieces_of_any_size(
    m: int, k: int, n: int, stacks: tuple[tuple[int, ...], tuple[int, ...]], piece: int, depth: int
) -> None:
    rng = np.random.default_rng(m)
    left, right = rng.normal(size=(*stacks[0], m, k)), rng.normal(size=(*stacks[1], k, n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "PIECE", piece)
        patch.setattr(products, "DEPTH", depth)
        found = multiply(left, right)
    np.testing.assert_allclose(found, left @ right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 100, products.DEPTH])
@pytest.mark.parametrize("columns", [1, 31, 32, 33, 100, 600])
@pytest.mark.parametrize("order", ["C", "F"])
def test_gram_matrices_are_added(rows: int, columns: int, order: str) -> None:
    part = np.asarray(np.random.default_rng(0).normal(size=(rows, columns)), order=order)
    total = np.ones((columns, columns))
    add_gram(total, part)
    np.testing.assert_allclose(np.tril(total), np.tril(1 + part.T @ part), rtol=1e-11, atol=1e-11)


def test_vectors_as_in_numpy() -> None:
    rng = np.random.default_rng(0)
    row, matrix, column = rng.normal(size=5), rng.normal(size=(3, 5, 7)), rng.normal(size=7)
    for left, right in ((row, matrix), (matrix, column), (row, row)):
        found = multiply(left, right)
        assert np.shape(found) == np.shape(left @ right)
        np.testing.assert_allclose(found, left @ right, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((700, 700), (700, 700)),
        ((24, 20_000), (20_000, 24)),
        ((30_000, 24), (24, 4)),
        ((900, 900), (900,)),
        ((900,), (900, 900)),
        ((100_000,), (100_000,)),
        ((4, 60_000), (60_000,)),
    ],
)
def test_a_product_does_not_depend_on_the_number_of_threads(
    left: tuple[int, ...], right: tuple[int, ...], dtype: type[np.floating]
) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=left).astype(dtype), rng.normal(size=right).astype(dtype)
    for first, second in ((a, b), (np.asfortranarray(a), b), (a, np.asfortranarray(b))):
        found = set()
        for threads in (1, 2, 4, 8):
            with threadpool_limits(threads, user_api="blas"):
                found.add(multiply(first, second).tobytes())
        assert len(found) == 1
