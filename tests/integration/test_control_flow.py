"""Models with If, Loop and Scan: every inner tensor against its literal evaluation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx.inliner
import onnxruntime
import pytest
from support.control_flow import FLOWS, Flow
from support.literal import Values, literal_values
from support.reference import difference


def evaluate_alone(flow: Flow) -> list[dict[str, Values]]:
    """Evaluate each sample by itself."""
    model = flow.model
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    count = len(next(iter(flow.feeds.values())))
    rows = ({name: x[i : i + 1] for name, x in flow.feeds.items()} for i in range(count))
    return [literal_values(model, feeds) for feeds in rows]


@pytest.mark.parametrize("make", FLOWS)
def test_the_literal_evaluation_gives_the_runtimes_outputs(make: Callable[[], Flow]) -> None:
    flow = make()
    session = onnxruntime.InferenceSession(flow.model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    for row, values in enumerate(evaluate_alone(flow)):
        feeds = {name: x[row : row + 1] for name, x in flow.feeds.items()}
        for name, result in zip(names, session.run(names, feeds), strict=True):
            expected = values[name][()]
            if expected is None:  # of a loop that did not run
                assert result.size == 0
            else:
                assert difference(result, np.asarray(expected)) is None, (name, row)
