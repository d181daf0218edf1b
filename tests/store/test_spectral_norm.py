"""Spectral norms, against singular value decompositions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from threadpoolctl import threadpool_limits

from cnatool.store import spectral_norm as module
from cnatool.store.block_matrix import BlockMatrix
from cnatool.store.spectral_norm import SPECTRAL_TOLERANCE, spectral_norm
from cnatool.store.weight_norms import matrix_norms


def block_matrix(blocks: np.ndarray, scale: np.ndarray | None = None) -> BlockMatrix:
    return BlockMatrix(blocks, np.ones((1, blocks.shape[1])) if scale is None else scale)


@given(
    blocks=st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20)).flatmap(
        lambda shape: npst.arrays(np.float32, shape, elements=st.floats(-1e3, 1e3, width=32))
    ),
    piece=st.integers(1, 200),
    direct=st.integers(0, 6),
    gram=st.integers(0, 20),
)
@settings(max_examples=100, deadline=None)
def test_small_matrices_as_if_they_were_large(
    blocks: np.ndarray, piece: int, direct: int, gram: int
) -> None:
    truth = max(np.linalg.norm(block.astype(np.float64), 2) for block in blocks)
    unit = float(np.abs(blocks).max()) or 1.0
    matrix = block_matrix(blocks, np.full((1, blocks.shape[1]), 1 / unit))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", piece)
        patch.setattr(module, "_DIRECT", direct)
        patch.setattr(module, "_GRAM", gram)
        found = spectral_norm(matrix) * unit
    assert found == pytest.approx(truth, rel=SPECTRAL_TOLERANCE / 2)


def orthonormal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    turned = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))[0]
    return turned if rows >= columns else turned.T


def with_singular_values(rng: np.random.Generator, shape: tuple[int, int], *largest: float):
    """A matrix with these largest singular values and others between 0 and 1."""
    size = min(shape)
    values = np.linspace(0, 1, size)
    values[size - len(largest) :] = largest[::-1]
    return (orthonormal(rng, shape[0], size) * values) @ orthonormal(rng, size, shape[1])


KINDS = {
    "gaussian": lambda rng, shape: rng.normal(size=shape),
    "rank one": lambda rng, shape: np.outer(rng.normal(size=shape[0]), rng.normal(size=shape[1])),
    "low rank": lambda rng, shape: rng.normal(size=(shape[0], 7)) @ rng.normal(size=(7, shape[1])),
    "equal singular values": lambda rng, shape: orthonormal(rng, *shape),
    "sparse": lambda rng, shape: rng.normal(size=shape) * (rng.random(shape) < 0.001),
    "one element": lambda rng, shape: np.eye(*shape) * (np.arange(shape[1]) == 3),
    "two that nearly agree": lambda rng, shape: with_singular_values(rng, shape, 2, 2 - 1e-9),
    "two that agree to 1e-4": lambda rng, shape: with_singular_values(rng, shape, 2, 2 - 2e-4),
    "many that agree": lambda rng, shape: with_singular_values(rng, shape, *[2.0] * 40),
    "of all sizes": lambda rng, shape: rng.normal(size=shape) * np.logspace(-30, 0, shape[1]),
    "constant": lambda rng, shape: np.full(shape, 0.1),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(65, 80), (300, 130), (256, 700), (530, 560), (700, 520)])
@pytest.mark.parametrize("kind", KINDS)
def test_spectral_norms_of_large_matrices(
    kind: str, shape: tuple[int, int], dtype: type[np.floating]
) -> None:
    full = KINDS[kind](np.random.default_rng(1), shape).astype(dtype)
    truth = np.linalg.norm(full.astype(np.float64), 2)
    found = spectral_norm(block_matrix(full[None]))
    assert found <= truth * (1 + 1e-12)
    assert found >= truth * (1 - SPECTRAL_TOLERANCE / 2)


def test_zero_and_a_single_row_or_column() -> None:
    assert spectral_norm(block_matrix(np.zeros((1, 600, 600)))) == 0
    for shape in ((1, 1, 100_000), (1, 100_000, 1), (3, 1, 70_000)):
        full = np.random.default_rng(0).normal(size=shape)
        truth = np.linalg.norm(full, axis=(1, 2)).max()
        assert spectral_norm(block_matrix(full)) == pytest.approx(truth, rel=1e-12)


def test_the_largest_of_many_large_blocks() -> None:
    blocks = np.random.default_rng(5).normal(size=(3, 90, 120))
    scale = np.random.default_rng(6).normal(size=(3, 90))
    truth = max(np.linalg.norm(b * s[:, None], 2) for b, s in zip(blocks, scale, strict=True))
    assert spectral_norm(block_matrix(blocks, scale)) == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize("spread", [0.3, 6, 9])
@pytest.mark.parametrize("shape", [(90, 100), (600, 530), (70, 9000)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8])
def test_rows_with_factors(
    shape: tuple[int, int], spread: float, dtype: type[np.generic], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of like and unlike sizes, negative ones and zeros; also by passes alone."""
    rng = np.random.default_rng(0)
    full = (30 * rng.normal(size=shape)).clip(-128, 127).astype(dtype)
    factors = np.logspace(-spread, spread, shape[0]) * rng.choice([-1, 0, 1], shape[0])
    truth = np.linalg.norm(full * factors[:, None], 2)
    for gram in (20, 1024):
        monkeypatch.setattr(module, "_GRAM", gram)
        found = matrix_norms(block_matrix(full[None], factors[None]))
        assert found is not None
        assert found.spectral == pytest.approx(truth, rel=SPECTRAL_TOLERANCE)


def test_the_same_matrix_has_the_same_norm_each_time() -> None:
    matrix = block_matrix(np.random.default_rng(2).normal(size=(1, 600, 620)))
    assert spectral_norm(matrix) == spectral_norm(matrix)


@pytest.mark.parametrize("unit", [1e-200, 1e-40, 1e40, 1e200])
@pytest.mark.parametrize("shape", [(90, 100), (600, 530)])
def test_factors_that_float32_cannot_hold(shape: tuple[int, int], unit: float) -> None:
    full = np.random.default_rng(0).normal(size=shape)
    found = matrix_norms(block_matrix(full[None] * unit, np.full((1, shape[0]), 1 / unit)))
    assert found is not None
    assert found.spectral == pytest.approx(np.linalg.norm(full, 2), rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_eigenvalue_does_not_depend_on_the_number_of_threads(dtype: type[np.floating]) -> None:
    # A spectrum that takes many passes, until the space is large.
    spectrum = np.linspace(0, 1, 5000).astype(dtype)[:, None]
    start = np.random.default_rng(0).standard_normal((5000, 4)).astype(dtype)
    found = set()
    for threads in (1, 2, 4):
        with threadpool_limits(threads, user_api="blas"):
            value, vectors = module._iterate(
                lambda vectors: spectrum * vectors, start, room=24, every=3, most=12
            )
        found.add((value, vectors.tobytes()))
    assert len(found) == 1


@pytest.mark.parametrize("shape", [(30, 64), (64, 5000), (700, 800)])
def test_norms_do_not_depend_on_the_number_of_threads(shape: tuple[int, int]) -> None:
    matrix = block_matrix(np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32))
    found = set()
    for threads in (1, 2, 4):
        with threadpool_limits(threads, user_api="blas"):
            found.add(matrix_norms(matrix))
    assert len(found) == 1
