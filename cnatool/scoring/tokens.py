"""Loss and accuracy of tokens: the next one in its sample, or one with a label of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cnatool._util.text import count_text
from cnatool.errors import DataError
from cnatool.metrics.tokens import IGNORED, TokenScores, next_tokens, score_tokens
from cnatool.records.ragged import Ragged
from cnatool.store.ragged import RaggedArray

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cnatool.metrics.performance import OutputKind
    from cnatool.records.ragged import Rows
    from cnatool.store.store import Split
    from cnatool.store.stored_array import StoredArray

Targets = Literal["next", "labels"]

_ELEMENTS = 1 << 20  # scores that are read at a time

TOKEN_NAMES = {"next": "next token", "labels": "token"}


@dataclass(frozen=True, slots=True)
class TokenTask:
    """What the scores of a token are compared with, and where the result is found."""

    targets: Targets
    # Whether the dump compared them; else stored scores are compared here
    stored: bool
    # Number of the raw input of ids, for the next token of stored scores
    ids: int | None = None

    @property
    def no_margin(self) -> str:
        """Why a sample has no margin."""
        return f"there are scores of each {TOKEN_NAMES[self.targets]}, not of the sample"


def explain_label_lists(output: str | None) -> str:
    """Explain why an output is not compared with lists of labels."""
    return (
        f"a sample has a list of labels, and output {output!r} does not have scores for each of "
        "them"
    )


def measure_tokens(
    split: Split, task: TokenTask, number: int | None, kind: OutputKind
) -> TokenScores | str:
    """Sum loss and right predictions over the tokens of each sample; or say why that fails."""
    try:
        if task.stored:
            scores = _read_stored(split)
        else:
            assert number is not None, "the scores are stored"
            scores = _compute(split, task, number, kind)
    except DataError as error:
        # α, β and CNA need no labels, and must not fail because of wrong ones.
        return str(error)
    return _find_problem(scores, task) or scores


def _find_problem(scores: TokenScores, task: TokenTask) -> str | None:
    """Explain why scores of tokens have no mean."""
    if not len(scores):
        return "the split has no rows"
    if not scores.tokens:
        if task.targets == "next":
            return "no sample has a token that follows another"
        return f"no token has a label (other than {IGNORED})"
    broken = len(scores) - int(np.count_nonzero(np.isfinite(scores.losses)))
    if broken:
        return (
            f"the loss is not finite for {broken:,} of {count_text(len(scores), 'sample')}: scores "
            "are not, or a token has none"
        )
    return None


def _read_stored(split: Split) -> TokenScores:
    return TokenScores(*(split.token_scores(name)[:] for name in ("loss", "correct", "count")))


def _compute(split: Split, task: TokenTask, number: int, kind: OutputKind) -> TokenScores:
    """Compare stored scores with the target of each token, a part of the samples at a time."""
    outputs = split.outputs(number)
    targets: StoredArray | RaggedArray | None
    if task.targets == "labels":
        targets = split.labels
    else:
        assert task.ids is not None, "the next token needs ids"
        targets = split.inputs(task.ids)
    assert targets is not None, "the split has labels"
    what = "labels" if task.targets == "labels" else "ids"
    parts = []
    for first, rows, wanted in _read_together(outputs, targets):
        if task.targets == "labels":
            wanted = _leave_out_padding(split, first, rows, wanted)
        parts.append(_compare(rows, wanted, first, task, kind, what))
    if not parts:
        return TokenScores(np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))
    return TokenScores.join(parts)


def _read_together(
    outputs: StoredArray | RaggedArray, targets: StoredArray | RaggedArray
) -> Iterator[tuple[int, Ragged, Ragged]]:
    """Yield samples of both arrays, of which the scores fit into memory."""
    for start, stop in _divide(outputs):
        yield start, _as_ragged(outputs[start:stop]), _as_ragged(targets[start:stop])


def _leave_out_padding(split: Split, first: int, scores: Ragged, labels: Ragged) -> Ragged:
    """Leave out the labels of padding, if samples have these and stored scores have not."""
    record = split.store.record
    steps = [None if step is None else step.input for step in record.steps]
    differ = (scores.lengths != labels.lengths).any()
    if not differ or not record.mask or record.mask.input not in steps:
        return labels
    stored = split.inputs(steps.index(record.mask.input))
    if isinstance(stored, RaggedArray):
        return labels
    real = record.mask.find_real({record.mask.input: stored[first : first + len(scores)]})
    rows = [
        row[positions] if len(row) == len(positions) != length else row
        for row, positions, length in zip(labels, real, scores.lengths.tolist(), strict=True)
    ]
    return Ragged.join(rows)


def _divide(outputs: StoredArray | RaggedArray) -> Iterator[tuple[int, int]]:
    """Divide samples into ranges of a limited number of scores, of one sample at least."""
    count = len(outputs)
    if isinstance(outputs, RaggedArray):
        sizes = outputs.lengths * math.prod(outputs.rest)
    else:
        sizes = np.full(count, math.prod(outputs.shape[1:]))
    ends = np.cumsum(sizes)
    start = 0
    while start < count:
        before = 0 if start == 0 else int(ends[start - 1])
        stop = int(np.searchsorted(ends, before + _ELEMENTS, side="right"))
        stop = min(count, max(start + 1, stop))
        yield start, stop
        start = stop


def _as_ragged(rows: Rows) -> Ragged:
    """Return samples behind one another, whether or not they have one length."""
    if isinstance(rows, Ragged):
        return rows
    length = rows.shape[1]
    return Ragged.from_lengths(rows.reshape(-1, *rows.shape[2:]), np.full(len(rows), length))


def _compare(
    scores: Ragged, targets: Ragged, first: int, task: TokenTask, kind: OutputKind, what: str
) -> TokenScores:
    """Compare the scores of tokens (total, K) with their targets (total,)."""
    differ = scores.lengths != targets.lengths
    if differ.any():
        row = int(differ.argmax())
        raise DataError(
            f"sample row {first + row} has {int(targets.lengths[row]):,} {what} and scores for "
            f"{count_text(int(scores.lengths[row]), 'token')}"
        )
    lengths, wanted = scores.lengths, targets.values.astype(np.int64)
    if task.targets == "labels":
        counted = wanted != IGNORED
    else:
        wanted, counted = _shift(targets)
    samples = np.repeat(np.arange(len(lengths)), lengths)[counted]
    values = scores.values[counted]
    _check_classes(values, wanted[counted], samples + first, what)
    losses, right = score_tokens(values, wanted[counted], kind)
    with np.errstate(invalid="ignore"):
        sums = np.bincount(samples, losses, minlength=len(lengths)).astype(np.float64)
    return TokenScores(
        sums,
        np.bincount(samples[right], minlength=len(lengths)).astype(np.int64),
        np.bincount(samples, minlength=len(lengths)).astype(np.int64),
    )


def _shift(ids: Ragged) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the next token of each, and which have one: all but the last of each sample."""
    targets, counted = next_tokens(ids.values[None])
    ends = ids.offsets[1:][ids.lengths > 0] - 1
    counted[0, ends] = False
    return targets[0], counted[0]


def _check_classes(
    scores: NDArray[Any], targets: NDArray[np.int64], samples: NDArray[np.int64], what: str
) -> None:
    classes = scores.shape[1]
    outside = (targets < 0) | (targets >= classes)
    if outside.any():
        place = int(outside.argmax())
        one = "label" if what == "labels" else "id"
        raise DataError(
            f"sample row {samples[place]} has the {one} {targets[place]}, and the output scores "
            f"{classes:,} class{'es' * (classes != 1)}: {what} go from 0 to {classes - 1:,}"
            + (f", or are {IGNORED} where a token has none" if what == "labels" else "")
        )
