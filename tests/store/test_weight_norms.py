from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cnatool.store import block_matrix as block_matrix_module
from cnatool.store import spectral_norm as spectral_norm_module
from cnatool.store.block_matrix import BlockMatrix
from cnatool.store.weight_norms import matrix_norms


def block_matrix(blocks: np.ndarray, scale: np.ndarray | None = None) -> BlockMatrix:
    return BlockMatrix(blocks, np.ones((1, blocks.shape[1])) if scale is None else scale)


def dense(matrix: BlockMatrix) -> np.ndarray:
    """The whole matrix, zeros and all."""
    count, rows, columns = matrix.blocks.shape
    full = np.zeros((count * rows, count * columns))
    for g in range(count):
        scale = matrix.scale[min(g, len(matrix.scale) - 1)]
        part = scale[:, None] * matrix.blocks[g].astype(np.float64)
        full[g * rows : (g + 1) * rows, g * columns : (g + 1) * columns] = part
    return full


shapes = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))


@given(
    blocks=shapes.flatmap(
        lambda shape: npst.arrays(np.float32, shape, elements=st.floats(-1e3, 1e3, width=32))
    ),
    other=st.integers(0, 20),
    part=st.integers(1, 200),
)
@settings(max_examples=60, deadline=None)
def test_norms_are_those_of_the_dense_matrix(blocks: np.ndarray, other: int, part: int) -> None:
    rng = np.random.default_rng(other)
    shape = blocks.shape[:2] if other % 2 else (1, blocks.shape[1])
    matrix = block_matrix(blocks, rng.normal(size=shape))
    before = block_matrix(rng.normal(size=blocks.shape))
    with pytest.MonkeyPatch.context() as patch:
        for module in (block_matrix_module, spectral_norm_module):
            patch.setattr(module, "PART", part)
        found = matrix_norms(matrix, before)
    assert found is not None
    full = dense(matrix)
    largest = np.abs(full).max()
    close = {"rtol": 1e-9, "atol": 1e-9 * largest}
    np.testing.assert_allclose(found.frobenius, np.linalg.norm(full), **close)
    np.testing.assert_allclose(found.spectral, np.linalg.norm(full, 2), **close)
    np.testing.assert_allclose(found.absolute_sum, np.abs(full).sum(), **close)
    np.testing.assert_allclose(found.distance, np.linalg.norm(full - dense(before)), **close)
    assert found.spectral <= found.frobenius * (1 + 1e-12)


@pytest.mark.parametrize("unit", [1e-160, 1e-30, 1e30, 1e160])
def test_squares_that_would_leave_the_range(unit: float) -> None:
    full = np.random.default_rng(0).normal(size=(5, 7))
    found = matrix_norms(block_matrix(full[None] * unit))
    assert found is not None
    assert found.frobenius == pytest.approx(np.linalg.norm(full) * unit, rel=1e-12)
    assert found.spectral == pytest.approx(np.linalg.norm(full, 2) * unit, rel=1e-12)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_weights_that_are_not_finite_have_no_norms(broken: float) -> None:
    blocks = np.ones((1, 3, 3))
    blocks[0, 1, 2] = broken
    assert matrix_norms(block_matrix(blocks)) is None
    assert matrix_norms(block_matrix(np.ones((1, 3, 3))), block_matrix(blocks)) is None


def test_zero_has_zero_norms() -> None:
    found = matrix_norms(block_matrix(np.zeros((2, 3, 4))))
    assert found is not None
    assert (found.frobenius, found.spectral, found.absolute_sum) == (0, 0, 0)
