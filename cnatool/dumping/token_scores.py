"""What a dump computes of the tokens of each sample, and what it notes about that."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.text import bytes_text, count_text, printable
from cnatool.data.wrappers import read_first_block
from cnatool.errors import DataError
from cnatool.metrics.tokens import IGNORED
from cnatool.records.ragged import Ragged
from cnatool.records.store import StoreRecord, TensorRecord, TokensRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.probe.token_outputs import TokenOutput
    from cnatool.data.source import Block, Source
    from cnatool.dumping.feed import Feed
    from cnatool.dumping.lengths import RunRows
    from cnatool.records.ragged import Rows

# Scores of so many classes are those of a vocabulary, and too large to be stored unasked.
_VOCABULARY = 1000


def plan_scores(
    output: TokenOutput | None, feed: Feed, sources: Iterable[Source]
) -> TokensRecord | None:
    """Decide whether the loss of each token is computed while the model runs, and of which target.

    If samples have a label for each token, these are the targets, else the next tokens, if scores
    do not depend on them.
    """
    if output is None:
        return None
    if _labels_fit(output, feed, sources):
        return TokensRecord("labels", output.ids, output.name, output.classes, output.kind)
    if output.direction != "next":
        return None
    return TokensRecord("next", output.ids, output.name, output.classes, output.kind, output.mask)


def _labels_fit(output: TokenOutput, feed: Feed, sources: Iterable[Source]) -> bool:
    """Whether the first samples have a label for each token."""
    for source in sources:
        if source.labelled and source.label_lists and source.rows:
            block = read_first_block(source, 1)
            counts = count_tokens(find_ids(block, feed, output.ids))
            if not isinstance(block.labels, Ragged):
                return False
            padded = block.labels.lengths == output.shape[0]
            return bool(
                ((block.labels.lengths == counts) | (padded & (feed.mask is not None))).all()
            )
    return False


def find_ids(block: Block, feed: Feed, name: str) -> Rows:
    """Return the samples of a model input as the data have them."""
    inputs = [step.input for step in feed.preprocessing]
    return block.inputs[feed.places[inputs.index(name)]]


def count_tokens(ids: Rows) -> NDArray[np.int64]:
    """Count the tokens of each sample, (n,)."""
    return ids.lengths if isinstance(ids, Ragged) else np.full(len(ids), ids.shape[1])


def make_targets(
    block: Block, rows: RunRows, ids: Rows, real: NDArray[np.bool_], tokens: TokensRecord
) -> NDArray[np.int64]:
    """Return the labels of the tokens of a run, (N, T), as targets of their scores.

    ``real`` says which positions are no padding, (N, T). A sample has a label for each position,
    or for each of those that are real.

    Raises
    ------
    DataError
        If a sample has more or fewer labels than tokens, or one that is no class.
    """
    targets = np.full(real.shape, IGNORED, np.int64)
    if not isinstance(block.labels, Ragged):
        return targets
    counts = count_tokens(ids)
    for place, row in enumerate(np.asarray(rows).tolist()):
        labels = block.labels[row]
        # Padding may have labels, which do not count.
        if len(labels) not in (counts[row], real.shape[1]):
            raise DataError(
                f"sample {printable(block.ids[row])} has {count_text(len(labels), 'label')} and "
                f"{count_text(int(counts[row]), 'token')}: give each token a label, {IGNORED} for "
                "none."
            )
        if len(labels) == int(real[place].sum()):
            targets[place, real[place]] = labels
        else:
            targets[place, : len(labels)] = labels
    outside = (targets != IGNORED) & ((targets < 0) | (targets >= tokens.classes))
    if outside.any():
        place = int(outside.any(axis=1).argmax())
        raise DataError(
            f"sample {printable(block.ids[int(np.asarray(rows)[place])])} has the label "
            f"{targets[outside][0]}, and output {tokens.output!r} scores {tokens.classes:,} "
            f"classes: labels go from 0 to {tokens.classes - 1:,}, or are {IGNORED} for none."
        )
    return targets


def list_scores(
    output: TokenOutput | None, tokens: TokensRecord | None, tensors: Sequence[TensorRecord]
) -> list[str]:
    """List the tensors that are not stored whole unasked.

    These are the output and the tensors of its shape that lead to it, or follow it.
    """
    if output is None or (tokens is None and output.classes < _VOCABULARY):
        return []
    return [
        tensor.name
        for tensor in tensors
        if tensor.name == output.name or (tensor.role == "output" and tensor.shape == output.shape)
    ]


def describe_scores(output: TokenOutput, record: StoreRecord) -> str:
    """Describe in a line what an output says of each token, and whether it is stored."""
    text = _describe_output(output, record)
    if not output.others or not record.tokens:
        return text
    names = " and ".join(map(repr, output.others))
    many = len(output.others) > 1
    return (
        f"{text}; {names} score{'s' * (not many)} the same tokens, and nothing is computed from "
        f"{'them' if many else 'it'}"
    )


def _describe_output(output: TokenOutput, record: StoreRecord) -> str:
    scores = f"output {output.name!r} has {output.classes:,} scores at each token"
    tokens, stored = record.tokens, any(array.name == output.name for array in record.outputs)
    size = bytes_text(math.prod(output.shape) * np.dtype(output.dtype).itemsize)
    take = (
        f"the scores, which need {size} for a sample of {output.shape[0]:,} tokens "
        f"(`tensors=['all', {output.name!r}]` stores them)"
    )
    if tokens and tokens.targets == "labels":
        return f"{scores}: loss and accuracy of the tokens' labels are stored, but not {take}"
    if tokens:
        text = (
            f"{scores} of {output.ids!r}, and none of them depends on later tokens: loss and "
            "accuracy of the next token are stored"
        )
        if output.mask is not None:
            text += f", excluding padding according to {output.mask!r}"
        elif record.mask:
            text += f" (padding of {output.ids!r}, if there is any, counts)"
        return text if stored else f"{text}, but not {take}"
    if output.direction == "both":
        text = (
            f"{scores}, which also depend on later tokens, as in a masked language model: there "
            "is no next-token loss"
        )
    else:
        text = (
            f"{scores}, but trial runs do not show whether they depend on later tokens: there is "
            "no next-token loss"
        )
    return text if stored or output.classes < _VOCABULARY else f"{text}. Not stored are {take}"
