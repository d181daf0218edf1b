"""Matrix products in pieces, against those in one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
