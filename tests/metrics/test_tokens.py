"""Loss and right predictions of tokens, compared with loops."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from cnatool.errors import DataError
from cnatool.metrics.tokens import TokenScores, next_tokens, score_tokens, sum_tokens


@pytest.mark.parametrize("length", [0, 1, 2, 6])
def test_next_tokens(length: int) -> None:
    rng = np.random.default_rng(length)
    ids = rng.integers(0, 9, (5, length))
    mask = rng.integers(0, 2, (5, length))
    for given in (None, mask):
        targets, counted = next_tokens(ids, given)
        for row in range(5):
            for t in range(length):
                real = t + 1 < length and (given is None or bool(mask[row, t] and mask[row, t + 1]))
                assert counted[row, t] == real
                assert not real or targets[row, t] == ids[row, t + 1]


def literal_loss(scores: list[float], target: int) -> float:
    # Exact to the last digit or so, however large the scores are.
    terms = [math.exp(score - max(scores)) for score in scores]
    return math.log(math.fsum(terms)) + max(scores) - scores[target]


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_losses(scale: float) -> None:
    rng = np.random.default_rng(0)
    scores = (scale * rng.normal(size=(40, 7))).astype(np.float32)
    targets = rng.integers(0, 7, 40)
    losses, right = score_tokens(scores, targets, "logits")
    for row, target in enumerate(targets.tolist()):
        expected = literal_loss(scores[row].astype(float).tolist(), target)
        assert losses[row] == pytest.approx(expected, rel=1e-12, abs=1e-12)
        assert right[row] == (scores[row].tolist().index(scores[row].max()) == target)


def test_ties_go_to_the_first() -> None:
    _, right = score_tokens(np.zeros((2, 3), np.float32), np.array([0, 1]), "logits")
    assert right.tolist() == [True, False]


def test_a_target_beyond_the_classes() -> None:
    with pytest.raises(DataError, match="has the label 3, and the output scores 3 classes"):
        score_tokens(np.zeros((2, 3), np.float32), np.array([0, 3]), "logits")


def test_sums() -> None:
    losses = np.array([[1.0, 2.0, np.nan], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    right = np.array([[True, True, True], [False, True, True], [True, True, True]])
    counted = np.array([[True, True, False], [True, True, True], [False, False, False]])
    sums = sum_tokens(losses, right, counted)
    assert [a.tolist() for a in (sums.losses, sums.correct, sums.counts)] == [
        [3.0, 15.0, 0.0],
        [2, 2, 0],
        [2, 3, 0],
    ]
    assert (sums.accuracy(), sums.loss()) == (Fraction(4, 5), 18 / 5)
    joined = TokenScores.join([sums[:1], sums[1:]])
    assert joined.losses.tolist() == sums.losses.tolist()


def test_no_tokens() -> None:
    empty: Any = sum_tokens(np.ones((2, 1)), np.ones((2, 1), bool), np.zeros((2, 1), bool))
    assert (empty.accuracy(), empty.loss(), empty.tokens) == (None, None, 0)
