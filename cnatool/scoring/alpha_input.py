"""Which raw input α is computed from, over which symbols, and how long its samples are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
import numpy as np

from cnatool.errors import MetricError
from cnatool.metrics.alpha_ragged import keep_values
from cnatool.records.layout import ragged_axis
from cnatool.records.ragged import Ragged
from cnatool.store.ragged import RaggedArray

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cnatool.metrics.convention import ConventionFields
    from cnatool.records.choices import InputKind
    from cnatool.records.ragged import Rows
    from cnatool.records.store import ArrayRecord, StoreRecord
    from cnatool.store.store import Split

LengthUnit: TypeAlias = Literal["bytes", "tokens", "amplitudes", "rows", "values"]

LEVELS = 256
_NAMED = 6  # special tokens
_UNITS: dict[InputKind, LengthUnit] = {"text": "bytes", "tokens": "tokens", "sound": "amplitudes"}


@dataclass(frozen=True, slots=True)
class AlphaInput:
    """The raw input that α is computed from."""

    number: int
    name: str
    kind: InputKind | None
    special: tuple[int, ...]  # token ids that are no symbols of a text

    @property
    def symbols(self) -> bool:
        """Whether each value is a symbol, with a bin of its own."""
        return self.kind in ("text", "tokens")

    def as_ragged(self, block: Rows) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the values of samples behind one another, without special tokens, and lengths."""
        if isinstance(block, Ragged):
            values, lengths = block.values.reshape(-1), block.counts
        else:
            values = block.reshape(-1)
            lengths = np.full(len(block), values.size // max(1, len(block)), np.int64)
        if not self.special:
            return values, lengths
        return keep_values(values, lengths, ~np.isin(values, self.special))

    def strip(self, block: Rows) -> Rows:
        """Return samples without special tokens."""
        return Ragged.from_lengths(*self.as_ragged(block)) if self.special else block


def select_alpha_input(record: StoreRecord, fields: ConventionFields) -> AlphaInput:
    """Select the raw input of a store that α is computed from.

    Of a text, `ConventionFields.alpha_symbols` chooses between its bytes and the ids of its tokens.
    Otherwise it is the first input, unless that holds whole numbers beside token ids, such as a
    mask.

    Raises
    ------
    MetricError
        If the store holds no text, or no token ids, that the convention asks for.
    """
    wanted: dict[str, InputKind] = {"bytes": "text", "tokens": "tokens"}
    kind = wanted.get(fields.alpha_symbols)
    numbers = _find_texts(record) if kind is None else _find_kind(record, kind)
    if kind is not None and not numbers:
        what = "text" if kind == "text" else "token ids"
        raise MetricError(
            f"no raw input of the store holds {what}, so that alpha_symbols={fields.alpha_symbols} "
            "has nothing to count: use `alpha_symbols='auto'`."
        )
    number = numbers[0] if numbers else 0
    array = record.inputs[number]
    special = () if array.special is msgspec.UNSET else array.special
    return AlphaInput(number, array.name, _kind(array), special)


def _find_texts(record: StoreRecord) -> list[int]:
    """Return the inputs with a text, and those with tokens behind them, if α is that of a text."""
    first = record.inputs[0]
    whole = np.dtype(first.dtype).kind in "iub" and len(first.shape) < 2 and first.levels is None
    if _kind(first) == "sound" or (_kind(first) is None and not whole):
        return []
    return _find_kind(record, "text") + _find_kind(record, "tokens")


def _find_kind(record: StoreRecord, kind: InputKind) -> list[int]:
    return [number for number, array in enumerate(record.inputs) if _kind(array) == kind]


def _kind(array: ArrayRecord) -> InputKind | None:
    return None if array.kind is msgspec.UNSET else array.kind


def describe_alpha_input(record: StoreRecord, fields: ConventionFields) -> str | None:
    """Describe what α is computed over; None for arrays of numbers taken whole."""
    found = select_alpha_input(record, fields)
    name = repr(found.name)
    text = None
    if found.kind == "text":
        text = f"bytes of {name} in UTF-8"
    elif found.kind == "tokens":
        text = f"ids of the tokens of {name}"
        if found.special:
            named = ", ".join(map(str, found.special[:_NAMED]))
            more = ", …" if len(found.special) > _NAMED else ""
            text += f" without special ones ({named}{more})"
    elif found.kind == "sound":
        text = f"amplitudes of {name}"
        if fields.alpha.startswith("entropy"):
            low, high = fields.sound_range
            text += f" from {low:g} to {high:g}"
    if fields.alpha.endswith("-rate"):
        windows = f"windows of {fields.alpha_window:,}"
        text = f"{windows} values of {name}" if text is None else f"{windows} {text}"
    return text


def measure_lengths(split: Split, fields: ConventionFields) -> NDArray[np.int64] | None:
    """Return how long each sample is that α is computed from, (n,); None if all are equally long.

    The unit is that of `length_unit`.
    """
    found = select_alpha_input(split.store.record, fields)
    array = split.inputs(found.number)
    if split.holds_levels(found.number):
        lengths = _gather(block[:, :LEVELS].sum(axis=1) for _, block in array.blocks())
    elif found.special:
        lengths = _gather(found.as_ragged(block)[1] for _, block in array.blocks())
    elif isinstance(array, RaggedArray):
        lengths = array.lengths
    else:
        return None
    return lengths if len(lengths) and lengths.min() < lengths.max() else None


def _gather(blocks: Iterator[NDArray[Any]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *(block.astype(np.int64) for block in blocks)])


def length_unit(record: StoreRecord, fields: ConventionFields) -> LengthUnit:
    """Name what `measure_lengths` counts."""
    found = select_alpha_input(record, fields)
    if found.kind is not None:
        return _UNITS[found.kind]
    return "values" if ragged_axis(record.inputs[found.number]) is None else "rows"
