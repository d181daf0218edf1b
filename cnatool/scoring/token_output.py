"""The output of a network that scores each token of a sample, and what tokens are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from msgspec import UNSET

from cnatool.metrics.margin import detect_output_kind
from cnatool.metrics.tokens import NOT_IDS
from cnatool.records.layout import ragged_axis
from cnatool.records.ragged import Ragged
from cnatool.scoring.tokens import TokenTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.metrics.performance import OutputKind
    from cnatool.records.store import StoreRecord
    from cnatool.store.store import Split, Store

# Operators that may pass probabilities on.
_PASSING = frozenset({"Cast", "Concat", "Identity", "Reshape", "Transpose"})


class TokenOutput(NamedTuple):
    """An output that scores tokens."""

    number: int | None  # among the stored outputs; None if a dump compared its scores
    name: str
    kind: OutputKind
    task: TokenTask


def select_token_output(
    store: Store, splits: Sequence[Split], name: str | None, *, of_samples: bool
) -> TokenOutput | None:
    """Select an output that scores tokens, where there are targets for them.

    These are lists of labels, or the next tokens of a model that a dump found to predict them; the
    token ids, where an output is named that has scores for each. If samples have labels,
    outputs with scores ``of_samples`` come first.
    """
    record = store.record
    labelled = any(split.record.labels for split in splits)
    dumped = record.tokens or None
    if dumped is not None and name not in (None, dumped.output):
        dumped = None
    if labelled and record.label_lists:
        if dumped is not None and dumped.targets == "labels":
            return TokenOutput(None, dumped.output, dumped.kind, TokenTask("labels", stored=True))
        number = _find_token_scores(record, name)
        if number is not None:
            kind = _find_token_kind(splits, number)
            return TokenOutput(
                number, record.outputs[number].name, kind, TokenTask("labels", stored=False)
            )
    elif labelled and name is None and of_samples:
        return None
    if dumped is not None and dumped.targets == "next":
        return TokenOutput(None, dumped.output, dumped.kind, TokenTask("next", stored=True))
    number = None if name is None or record.label_lists else _find_token_scores(record, name)
    ids = None if number is None else _find_ids(record, number)
    if number is None or ids is None:
        return None
    kind = _find_token_kind(splits, number)
    return TokenOutput(
        number, record.outputs[number].name, kind, TokenTask("next", stored=False, ids=ids)
    )


def _find_token_scores(record: StoreRecord, name: str | None) -> int | None:
    """Find the output with scores of each token, (T, K): the named one, or the only one."""
    found = [
        number
        for number, output in enumerate(record.outputs)
        if np.dtype(output.dtype).kind == "f"
        and len(output.shape) == 2
        and ragged_axis(output) in (None, 0)
        and output.shape[1] > 1
        and name in (None, output.name)
    ]
    return found[0] if len(found) == 1 else None


def _find_ids(record: StoreRecord, number: int) -> int | None:
    """Find the raw input that has an id for each token of an output; None unless it is one."""
    output = record.outputs[number]
    varies = ragged_axis(output) is not None
    found = [
        place
        for place, array in enumerate(record.inputs)
        if np.dtype(array.dtype).kind in "iu"
        and len(array.shape) == 1
        and array.levels is None
        and (ragged_axis(array) is not None) == varies
        and (varies or array.shape[0] == output.shape[0])
        and array.kind in (UNSET, "tokens")
        and not any(word in array.name.lower() for word in NOT_IDS)
    ]
    return found[0] if len(found) == 1 else None


def _find_token_kind(splits: Sequence[Split], number: int) -> OutputKind:
    """Find out whether scores of tokens are probabilities, by their operator or their values."""
    operator = splits[0].output_operator(number) if splits else None
    if operator == "Softmax":
        return "probabilities"
    if operator is not None and operator not in _PASSING:
        return "logits"
    for split in splits:
        for _, block in split.outputs(number).blocks():
            values = block.values if isinstance(block, Ragged) else block
            if detect_output_kind(values.reshape(-1, values.shape[-1])) == "logits":
                return "logits"
    return "probabilities"
