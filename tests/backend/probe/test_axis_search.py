"""Sample axes of arrays without elements, such as those of experts that no sample takes."""

from __future__ import annotations

import numpy as np
import pytest

from cnatool.backend.probe.axis_search import find_rolled_axis
from cnatool.backend.probe.sample_axis import SampleAxis


@pytest.mark.parametrize(("merged", "shape"), [("NT", (3, 4, 0)), ("TN", (3, 4, 0))])
def test_an_array_without_elements_is_divided_among_samples(merged, shape):
    empty = np.empty((12, 0), np.float32)
    assert SampleAxis(0, 4, merged).samples_first(empty).shape == shape


def test_an_axis_that_is_no_multiple_is_refused():
    with pytest.raises(ValueError, match="not a multiple"):
        SampleAxis(0, 4, "NT").samples_first(np.empty((10, 2)))


def test_where_there_is_nothing_to_see_one_of_several_axes_is_not_taken():
    empty = np.empty((3, 3, 0), np.float32)
    assert find_rolled_axis(empty, empty, 3) == "several axes may be the samples': shape (3, 3, 0)"
    equal = np.ones((3, 3), np.float32)
    assert find_rolled_axis(equal, equal, 3) == SampleAxis(0)
