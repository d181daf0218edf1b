"""The principal plane from products alone, against the decomposition of the explicit matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnatool.errors import MetricError
from cnatool.studying.statistics.plane import Plane, centred_gram, principal_plane


def plane_of(points: np.ndarray, pieces: int = 1) -> Plane:
    blocks = np.array_split(points, pieces, axis=1)
    return principal_plane(sum(centred_gram(block.copy()) for block in blocks))


@settings(deadline=None)
@given(
    st.integers(3, 9), st.integers(9, 60), st.integers(1, 7), st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 1e3, -1e6]),
)  # fmt: skip
def test_products_give_the_singular_value_decomposition(
    count: int, width: int, pieces: int, seed: int, offset: float
) -> None:
    rng = np.random.default_rng(seed)
    # Components of different strength, so that each is defined.
    points = (
        rng.normal(size=(count, count)) * 0.7 ** np.arange(count) @ rng.normal(size=(count, width))
    )
    points += offset
    plane = plane_of(points, pieces)
    centred = points - points.mean(axis=0)
    u, s, axes = np.linalg.svd(centred, full_matrices=False)
    scale = 1e-9 * max(1.0, abs(offset) * 1e-3)
    np.testing.assert_allclose(
        plane.shares, s[: count - 1] ** 2 / (s**2).sum(), atol=scale, rtol=1e-6
    )
    if s[0] - s[1] < 1e-2 * s[0] or s[1] - s[2] < 1e-2 * s[0]:
        return  # the axes hardly are
    mine = plane.weights @ centred
    signs = np.sign((mine * axes[:2]).sum(axis=1))
    tolerance = 1e-7 * max(1.0, abs(offset) * 1e-2)
    np.testing.assert_allclose(mine * signs[:, None], axes[:2], atol=tolerance)
    np.testing.assert_allclose(plane.coordinates * signs, u[:, :2] * s[:2], atol=tolerance * s[0])
    inside = ((centred @ axes[:2].T) ** 2).sum(axis=1)
    np.testing.assert_allclose(plane.captured, inside / (centred**2).sum(axis=1), atol=tolerance)
    # The sign does not depend on the library.
    largest = np.abs(plane.coordinates).argmax(axis=0)
    assert (plane.coordinates[largest, [0, 1]] > 0).all()


def test_images_under_a_linear_map() -> None:
    rng = np.random.default_rng(4)
    points, map_ = rng.normal(size=(6, 40)), rng.normal(size=(40, 3))
    plane = plane_of(points)
    axes = plane.weights @ (points - points.mean(axis=0))
    got = plane.images(points @ map_)
    expected = (points.mean(axis=0), axes[0], axes[1])
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other @ map_, atol=1e-12)


def test_a_point_that_is_the_mean_has_no_share() -> None:
    points = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 0]])
    plane = plane_of(points)
    np.testing.assert_allclose(plane.shares, [0.8, 0.2, 0, 0], atol=1e-15)
    np.testing.assert_allclose(plane.captured, [1, 1, 1, 1, np.nan])


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.ones((2, 5)), "a plane needs at least three checkpoints, but there are 2"),
        (np.full((4, 5), 0.1), "are the same at all checkpoints"),
        (np.outer([0.1, 1, 2.7, 5], np.arange(1, 9) / 7), "lie on one line"),
    ],
)
def test_no_plane(points: np.ndarray, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        plane_of(points)
