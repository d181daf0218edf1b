"""Networks that read texts, recorded with the texts and the ids of their tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import entropy

import cnatool

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


def test_texts_and_padded_ids(tmp_path: Path) -> None:
    from cnatool.recorders.torch import Recorder

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Embedding(30, 4),
        torch.nn.Flatten(),
        torch.nn.Linear(40, 16),
        torch.nn.ReLU(),
        torch.nn.Linear(16, 8),
        torch.nn.ReLU(),
        torch.nn.Linear(8, 3),
    )
    rng = np.random.default_rng(0)
    ids = np.zeros((24, 10), np.int64)
    for row in ids:
        row[: rng.integers(1, 11)] = rng.integers(1, 30)
        row[0] = 7
    texts = [" ".join(map(str, row[row > 0])) for row in ids]
    kinds = {"text": "text", "ids": "tokens"}
    path = tmp_path / "s.zarr"
    with Recorder(network, path, kinds=kinds, special=[0]) as recorder, torch.no_grad():
        for part in (slice(0, 12), slice(12, 24)):
            with recorder.batch("test", inputs={"text": texts[part], "ids": ids[part]}):
                network(torch.from_numpy(ids[part]))
    assert cnatool.open(path).splits["test"].texts() == texts
    found = cnatool.score_samples(path, overrides={"alpha_symbols": "tokens"})["alpha"]
    expected = [entropy(np.unique(row[row > 0], return_counts=True)[1], base=2) for row in ids]
    np.testing.assert_allclose(found, expected, atol=1e-12)
