"""Labels of a dump, compared with the classes that its model scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.text import classes_text
from cnatool.records.ragged import Ragged
from cnatool.scoring.output import count_classes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.records.ragged import Rows
    from cnatool.records.store import StoreRecord


class LabelRange:
    """The smallest and the largest label of all splits.

    ``offset`` was added to them; it is None for a part of a dump, which may lack classes.
    """

    def __init__(self, record: StoreRecord, offset: int | None) -> None:
        self._offset = offset
        self._record = record
        self._range: tuple[int, int] | None = None
        self._splits: list[str] = []

    def add(self, split: str, labels: Rows | None) -> None:
        """Add the labels of a block; lists of labels are those of tokens."""
        if labels is None or isinstance(labels, Ragged) or not len(labels):
            return
        low, high = int(labels.min()), int(labels.max())
        if self._range is not None:
            low, high = min(low, self._range[0]), max(high, self._range[1])
        self._range = low, high
        if split not in self._splits:
            self._splits.append(split)

    def notes(self, classes: tuple[str, ...] | None) -> Iterator[str]:
        """Describe labels that are no classes of the model, or names that are too few or many."""
        if self._range is None:
            return
        low, high = self._range
        scored = count_classes(self._record, high)
        if scored is None:
            return
        output, count = scored
        if count == 1:
            return
        if low < 0 or high >= count:
            where = " and ".join(self._splits)
            text = (
                f"labels of {where} go from {low} to {high}, but output {output!r} scores {count} "
                f"classes, 0 to {count - 1}: accuracy, loss and margin are undefined"
            )
            if high - low < count and self._offset is not None:
                shift = f"`label_offset={self._offset - low}` moves them to 0 … {high - low}"
                text += f". If the first class is {low}, {shift}"
            yield text
        elif classes is not None and len(classes) != count:
            yield (
                f"the data name {len(classes)} classes ({classes_text(classes)}), but output "
                f"{output!r} scores {count}: accuracy, loss and margin are correct only if the "
                "model numbers its classes in the same way"
            )
