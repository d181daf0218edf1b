"""Loss and right predictions of each token, and their sums over a sample (docs/metrics.md)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.metrics.performance import cross_entropy, predictions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool.metrics.performance import OutputKind

# The label of a position that is left out, as in PyTorch and transformers.
IGNORED = -100
# Words in the names of arrays of integers that have a number for each token, but no id.
NOT_IDS = ("mask", "type", "segment", "position", "length")
_ELEMENTS = 1 << 20  # scores that are turned into losses at a time


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Sums over the tokens of each sample that have a target, (n,) each."""

    losses: NDArray[np.float64]  # of −ln p(target), in nats
    correct: NDArray[np.int64]  # targets with the greatest score
    counts: NDArray[np.int64]  # tokens that have a target

    @classmethod
    def join(cls, parts: Sequence[TokenScores]) -> TokenScores:
        """Put the samples of several behind one another."""
        return cls(
            np.concatenate([part.losses for part in parts]),
            np.concatenate([part.correct for part in parts]),
            np.concatenate([part.counts for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, rows: slice | NDArray[Any]) -> TokenScores:
        return TokenScores(self.losses[rows], self.correct[rows], self.counts[rows])

    @property
    def numbers(self) -> dict[str, NDArray[Any]]:
        """The three by the names that they have in a store."""
        return {"loss": self.losses, "correct": self.correct, "count": self.counts}

    @property
    def tokens(self) -> int:
        """Tokens of all samples that have a target."""
        return int(self.counts.sum())

    def accuracy(self) -> Fraction | None:
        """Return the exact share of right predictions over all tokens; None without any."""
        return Fraction(int(self.correct.sum()), self.tokens) if self.tokens else None

    def loss(self) -> float | None:
        """Return the mean cross-entropy over all tokens, in nats; None without any."""
        return float(self.losses.sum()) / self.tokens if self.tokens else None


def next_tokens(
    ids: NDArray[Any], mask: NDArray[Any] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return what each token should predict, (n, T), and which tokens count, (n, T).

    Token t predicts token t + 1. The last one predicts nothing, and nor does one that is padding,
    or followed by padding, as the mask (n, T) says: it is 0 there.
    """
    targets = np.roll(ids.astype(np.int64), -1, axis=1)
    counted = np.ones(ids.shape, np.bool_) if mask is None else mask != 0
    counted = counted & np.roll(counted, -1, axis=1)
    counted[:, -1:] = False
    return targets, counted


def sum_tokens(
    losses: NDArray[Any], right: NDArray[Any], counted: NDArray[np.bool_]
) -> TokenScores:
    """Sum losses and right predictions, (n, T) each, over the tokens of each sample that count."""
    return TokenScores(
        np.where(counted, losses, 0.0).sum(axis=1, dtype=np.float64),
        (counted & right).sum(axis=1, dtype=np.int64),
        counted.sum(axis=1, dtype=np.int64),
    )


def score_tokens(
    scores: NDArray[Any], targets: NDArray[np.int64], kind: OutputKind
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return −ln p(target) and whether the target has the greatest score, (m,) each.

    ``scores`` are those of m tokens, (m, K). Raises `DataError` for a target that is no class.
    """
    losses, right = np.empty(len(scores)), np.empty(len(scores), np.bool_)
    step = max(1, _ELEMENTS // max(1, scores.shape[1]))
    for start in range(0, len(scores), step):
        part = slice(start, start + step)
        losses[part] = cross_entropy(scores[part], targets[part], kind, first_row=start)
        right[part] = predictions(scores[part]) == targets[part]
    return losses, right
