"""The output of a network that holds class scores, and how to read them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.errors import UsageError
from cnatool.metrics.margin import detect_output_kind
from cnatool.metrics.performance import (
    OutputKind,
    one_unit_predictions,
    one_unit_scores,
    predictions,
)
from cnatool.records.layout import ragged_axis
from cnatool.records.skipped import format_missing_outputs, list_missing_outputs
from cnatool.scoring.token_output import select_token_output
from cnatool.store.ragged import as_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from cnatool.records.store import ArrayRecord, LayerRecord, StoreRecord
    from cnatool.scoring.tokens import TokenTask
    from cnatool.store.store import Split, Store


# So many scores in so many rows do not all descend by chance, even if their order never changes.
_MANY_ROWS, _MANY_SCORES = 16, 5


@dataclass(frozen=True, slots=True)
class ScoredOutput:
    """The output that accuracy, loss and margin are taken from."""

    # Its place among the model's outputs, and its name; None where the store has no output
    number: int | None
    name: str | None
    others: tuple[str, ...]  # other outputs that could be meant as well
    kind: OutputKind | None  # what it holds, the same for all splits
    reason: str | None  # why it holds no class scores, where it does not
    tokens: TokenTask | None = None  # where it scores tokens: what these are compared with

    def scores(self, block: NDArray[Any]) -> NDArray[Any]:
        """Return one score per class, (n, H), from rows of the output."""
        rows = flatten_scores(block)
        return one_unit_scores(rows, self._known) if _is_one_unit(rows.shape[1:]) else rows

    def predictions(self, block: NDArray[Any]) -> NDArray[np.int64]:
        """Return the predicted class of each row of the output."""
        rows = flatten_scores(block)
        if _is_one_unit(rows.shape[1:]):
            return one_unit_predictions(rows, self._known)
        return predictions(rows)

    @property
    def _known(self) -> OutputKind:
        assert self.kind is not None, "the output holds class scores"
        return self.kind


def select_output(store: Store, splits: Sequence[Split], name: str | None) -> ScoredOutput:
    """Select an output by name, or the likeliest one, and find out what it holds.

    Likely are outputs of floats, of these the ones that a last layer leads to, of these the ones
    with one score per class, of these the ones with a score for every label, of these the deepest,
    as long as one is left; then the first. Of several outputs none is chosen where no layer leads
    to those that are left, or they cannot hold class scores.
    """
    outputs = store.record.outputs
    tokens = select_token_output(
        store, splits, name, of_samples=any(map(_can_hold_scores, outputs))
    )
    if tokens is not None:
        return ScoredOutput(tokens.number, tokens.name, (), tokens.kind, None, tokens.task)
    if name is not None:
        names = [output.name for output in outputs]
        if name not in names:
            raise UsageError(
                f"`output={name!r}`: {store.path} has no such output. It has "
                f"{', '.join(names) or 'none'}."
            )
        left = [names.index(name)]
    else:
        left = _likely_outputs(store.record, _largest_label(splits))
    if not left:
        return _output(store.record, left, (None, explain_missing_output(store.record)))
    if not splits:
        return _output(store.record, left, (None, "the store has no splits"))
    if name is None and (reason := _explain_no_choice(store.record, left)) is not None:
        return ScoredOutput(None, None, (), None, reason)
    blocks = (block for split in splits for _, block in as_plain(split.outputs(left[0])).blocks())
    operator = splits[0].output_operator(left[0])
    return _output(store.record, left, _find_kind(store.record, left[0], operator, blocks))


def select_dumped_output(
    record: StoreRecord,
    operators: Sequence[str],
    blocks: Callable[[int], Iterable[NDArray[Any]]],
) -> ScoredOutput:
    """Select the likeliest output of a model while there is no store yet."""
    left = _likely_outputs(record)
    if not left:
        return _output(record, left, (None, explain_missing_output(record)))
    if (reason := _explain_no_choice(record, left)) is not None:
        return ScoredOutput(None, None, (), None, reason)
    kind = _find_kind(record, left[0], operators[left[0]], blocks(left[0]))
    return _output(record, left, kind)


def count_classes(record: StoreRecord, largest: int) -> tuple[str, int] | None:
    """Return the name of the likeliest output and its number of classes; None if it has none.

    ``largest`` is the largest label.
    """
    left = _likely_outputs(record, largest)
    if not left or _explain_no_choice(record, left) is not None:
        return None
    output = record.outputs[left[0]]
    if not _can_hold_scores(output):
        return None
    shape = _classes(output.shape)
    return output.name, 2 if _is_one_unit(shape) else shape[0]


def _output(
    record: StoreRecord, left: Sequence[int], kind: tuple[OutputKind | None, str | None]
) -> ScoredOutput:
    if not left:
        return ScoredOutput(None, None, (), *kind)
    names = [record.outputs[number].name for number in left]
    return ScoredOutput(left[0], names[0], tuple(names[1:]), *kind)


def explain_missing_output(record: StoreRecord) -> str:
    """Explain why a store holds no output of its model."""
    names = () if record.model is None else record.model.outputs
    missing = list_missing_outputs(names, record.skipped, record.tensors, record.unselected)
    text = "the store holds no output of the model"
    if not missing:
        return text
    return f"{text}: {format_missing_outputs(missing)}{_zipmap_text(record)}"


def _zipmap_text(record: StoreRecord) -> str:
    if not any(tensor.operator == "ZipMap" for tensor in record.skipped):
        return ""
    return (
        "; the model hands its class probabilities to a ZipMap, which gives no array: "
        "export it from scikit-learn with zipmap=False"
    )


def _likely_outputs(record: StoreRecord, largest: int | None = None) -> list[int]:
    """List the likeliest outputs, where ``largest`` is the largest label, if there are labels."""
    outputs, depths = record.outputs, _head_depths(record)
    evidence: list[Callable[[ArrayRecord], bool]] = [
        lambda output: ragged_axis(output) is None,
        lambda output: np.dtype(output.dtype).kind == "f",
        lambda output: output.name in depths,
        lambda output: len(_classes(output.shape)) < 2,
        lambda output: largest is None or largest < _count_scores(output.shape),
    ]
    left = list(range(len(outputs)))
    for holds in evidence:
        left = [number for number in left if holds(outputs[number])] or left
    deepest = max((depths.get(outputs[number].name, 0) for number in left), default=0)
    return [number for number in left if depths.get(outputs[number].name, 0) == deepest]


def _head_depths(record: StoreRecord) -> dict[str, int]:
    """Return the depth of the last layer that leads to each output, as far as one does."""
    depths: dict[str, int] = {}
    for layer in record.layers:
        for name in _led_to(layer):
            depths[name] = max(depths.get(name, 0), layer.path)
    return depths


def _led_to(layer: LayerRecord) -> set[str]:
    """Return the outputs that a layer leads to; those that it is itself among them."""
    own = {layer.linear, layer.preactivation} if layer.output else set()
    return own.union(layer.leads_to)


def _can_hold_scores(output: ArrayRecord) -> bool:
    """Whether an output could hold one score per class, by its type and shape."""
    shape = _classes(output.shape)
    is_plain = ragged_axis(output) is None and np.dtype(output.dtype).kind == "f"
    return is_plain and len(shape) < 2 and 0 not in shape


def _ragged_text(output: ArrayRecord) -> str:
    return (
        f"output {output.name!r} varies in length from sample to sample: it does not contain one "
        "score per class"
    )


def _explain_no_choice(record: StoreRecord, likely: Sequence[int]) -> str | None:
    """Explain why no output is taken for class scores; None if one is.

    Either none can hold them, or nothing tells which does: no layer leads to any.
    """
    outputs, depths = record.outputs, _head_depths(record)
    names = [outputs[number].name for number in likely if _can_hold_scores(outputs[number])]
    if len(outputs) == 1 and ragged_axis(outputs[0]) is not None:
        return _ragged_text(outputs[0])
    if len(outputs) > 1 and not names:
        listed = ", ".join(output.name for output in outputs)
        return f"none of the outputs {listed} contains one score per class for each sample"
    if any(outputs[number].name in depths for number in likely):
        return None
    if len(likely) > 1:
        return (
            f"any of the outputs {', '.join(names)} could contain the class scores: choose with "
            "`output=NAME`"
        )
    if len(outputs) > 1 and record.layers:
        return f"no layer leads to an output: `output={names[0]}` treats it as class scores"
    return None


def _count_scores(shape: tuple[int, ...]) -> int:
    return 2 if _is_one_unit(shape) else math.prod(shape)


def _largest_label(splits: Sequence[Split]) -> int | None:
    """Return the largest label of splits; None where they have none."""
    arrays = [labels for split in splits if (labels := split.sample_labels) is not None]
    largest = [int(block.max()) for array in arrays for _, block in array.blocks() if len(block)]
    return max(largest, default=None)


def _find_kind(
    record: StoreRecord, number: int, operator: str | None, blocks: Iterable[NDArray[Any]]
) -> tuple[OutputKind | None, str | None]:
    """Find out what an output holds in all splits; or None, and why it holds no class scores.

    The operator that makes the output decides; where it is unknown or tells nothing, the values.
    """
    output = record.outputs[number]
    shape = _classes(output.shape)
    if ragged_axis(output) is not None:
        return None, _ragged_text(output)
    if np.dtype(output.dtype).kind != "f":
        return None, (
            f"output {output.name!r} holds {output.dtype}, not scores{_zipmap_text(record)}"
        )
    one_unit = _is_one_unit(shape)
    if not one_unit and (len(shape) != 1 or not shape[0]):
        return (
            None,
            f"output {output.name!r} has shape {output.shape} a sample, not one score per class",
        )
    if operator == "Softmax" or (operator == "Sigmoid" and one_unit):
        return "probabilities", None
    if operator == "Sigmoid":
        return None, "the output is one sigmoid per unit: independent scores, not one distribution"
    # Without an operator, only the values can tell whether something follows the layer.
    if (
        one_unit
        and operator
        and any(
            layer.output and output.name in (layer.linear, layer.preactivation)
            for layer in record.layers
        )
    ):
        return "logits", None
    look = _one_unit_kind if one_unit else detect_output_kind
    led_to = output.name in _head_depths(record)
    kinds, order = set(), _DescendingOrder()
    for block in blocks:
        rows = flatten_scores(block)
        kinds.add(look(rows))
        if not led_to and rows.shape[1:] >= (_MANY_SCORES,):
            order.add(rows)
    if order.holds:
        return None, (
            f"the scores of output {output.name!r} decrease in every sample: they belong to "
            "detections, not to classes"
        )
    return ("probabilities" if kinds == {"probabilities"} else "logits"), None


class _DescendingOrder:
    """Whether scores descend in every row, the largest first, as those of detections do."""

    def __init__(self) -> None:
        self._rows, self._holds, self._falls = 0, True, False

    def add(self, rows: NDArray[Any]) -> None:
        """Look at a block of rows."""
        self._rows += len(rows)
        self._holds = self._holds and bool((rows[:, 1:] <= rows[:, :-1]).all())
        self._falls = self._falls or bool((rows[:, 1:] < rows[:, :-1]).any())

    @property
    def holds(self) -> bool:
        """Whether they do, in too many rows for chance."""
        return self._holds and self._falls and self._rows >= _MANY_ROWS


def flatten_scores(block: NDArray[Any]) -> NDArray[Any]:
    """Remove the axes of length one around the classes of a block of rows.

    A fully convolutional classifier gives (n, K, 1, 1), or (n, 1, 1, K).
    """
    return block.reshape(len(block), *_classes(block.shape[1:]))


def _classes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a sample's shape without axes of length one, unless it has one axis alone."""
    if len(shape) < 2 or 0 in shape:
        return shape
    return tuple(size for size in shape if size != 1) or (1,)


def _is_one_unit(shape: tuple[int, ...]) -> bool:
    return shape in ((), (1,))


def _one_unit_kind(block: NDArray[Any]) -> OutputKind:
    return "probabilities" if bool(((block >= 0) & (block <= 1)).all()) else "logits"
