"""Whether scores of tokens depend on later ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from support.token_models import TokenModel

from cnatool.backend.graph.graph import load_graph
from cnatool.backend.probe.token_outputs import _compare


@pytest.mark.parametrize("causal", [True, False])
def test_padding_in_front_may_depend_on_later_tokens(causal: bool, tmp_path: Path) -> None:
    path = TokenModel(causal=causal).save(tmp_path / "m.onnx")
    ids = np.arange(1, 8)[None]
    real = np.array([[False, False, True, True, True, True, True]])
    session = ort.InferenceSession(path)
    changed = ids.copy()
    changed[0, -1] = 9
    [before], [after] = (session.run(None, {"input_ids": x}) for x in (ids, changed))
    # A softmax over nothing but masked scores takes the mean of all tokens.
    after[:, :2] += 1
    found = _compare(load_graph(path), before, after, np.array([6]), real)
    assert found == ("next" if causal else "both")
