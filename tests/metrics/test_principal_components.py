"""Principal components, against scikit-learn on the same rows."""

from __future__ import annotations

import numpy as np
import pytest

from cnatool.errors import DataError
from cnatool.metrics.principal_components import fit_components

sklearn = pytest.importorskip("sklearn.decomposition")


@pytest.mark.parametrize("shape", [(300, 40), (40, 300), (60, 60)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_components_are_those_of_scikit_learn(shape: tuple[int, int], dtype: type) -> None:
    rng = np.random.default_rng(1)
    scales = 2.0 ** -np.arange(shape[1]).clip(0, 12)
    mixing = np.linalg.qr(rng.normal(size=(shape[1], shape[1])))[0]
    rows = (rng.normal(size=shape) * scales @ mixing + 100).astype(dtype)
    found = fit_components(rows, 6)
    expected = sklearn.PCA(6, svd_solver="full").fit(rows.astype(np.float64))
    np.testing.assert_allclose(found.mean, expected.mean_, rtol=1e-12)
    np.testing.assert_allclose(found.components, expected.components_, atol=1e-8)
    np.testing.assert_allclose(found.explained, expected.explained_variance_, rtol=1e-8)
    share = found.explained.sum() / found.variance
    assert share == pytest.approx(expected.explained_variance_ratio_.sum(), rel=1e-9)
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(6), atol=1e-9)


def test_rows_that_determine_no_components() -> None:
    rows = np.outer(np.arange(9.0), np.ones(20))
    with pytest.raises(DataError, match="9 samples vary along 1 direction only, fewer than 2"):
        fit_components(rows, 2)
    rows[3, 3] = np.inf
    with pytest.raises(DataError, match="NaN or infinite"):
        fit_components(rows, 1)
