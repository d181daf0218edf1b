"""Labels that differ from those of the source: shifted, renumbered, or dropped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.text import classes_text
from cnatool.data.wrappers import SourceWrapper
from cnatool.errors import DataError
from cnatool.metrics.tokens import IGNORED
from cnatool.records.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cnatool.data.source import Block, Source
    from cnatool.records.ragged import Rows


@dataclass(frozen=True, slots=True)
class RelabelledSource(SourceWrapper):
    """A source with other labels.

    Attributes
    ----------
    source : Source
    offset : int
        Added to every label.
    keep : bool
        Whether labels are kept, if the source has any.
    new_classes : tuple of str or None
        Names of the classes 0, 1, … by which labels are renumbered, including all of the source.
    """

    offset: int = 0
    keep: bool = True
    new_classes: tuple[str, ...] | None = None

    @property
    def labelled(self) -> bool:
        """Whether blocks carry labels."""
        return self.keep and self.source.labelled

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes; None if labels are shifted, as they then number other classes."""
        if not self.keep or self.offset:
            return None
        return self.new_classes or self.source.classes

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield the blocks of the source with the new labels."""
        new_numbers = None
        if self.new_classes is not None:
            number = {name: i for i, name in enumerate(self.new_classes)}
            new_numbers = np.array([number[name] for name in self.source.classes or ()], np.int64)
        for block in self.source.blocks(rows, limit, start):
            labels = block.labels
            if not self.keep or labels is None:
                yield replace(block, labels=None)
                continue
            # The label of a row that cannot be read is undefined.
            if new_numbers is not None and not isinstance(labels, Ragged):
                labels = new_numbers[labels]
            yield replace(block, labels=_shift(labels, self.offset))


def _shift(labels: Rows, offset: int) -> Rows:
    """Add an offset to labels, but for those of tokens that have none."""
    if not isinstance(labels, Ragged):
        return labels + offset
    values = labels.values
    shifted = np.where(values == IGNORED, values, values + offset)
    return Ragged(shifted, labels.offsets, labels.axis)


def unify_classes(sources: Mapping[str, Source], note: Callable[[str], None]) -> dict[str, Source]:
    """Make a label mean the same class in all splits, by the names of classes.

    Classes that are numbered by their names get other numbers in a split that lacks some of them.
    Such a split is renumbered like the training split, or like the one with most classes. A
    DataError is raised if only some splits have names of classes, or none has the names of all.
    """
    labelled = {name: source for name, source in sources.items() if source.labelled}
    if not all(source.numbered_by_name for source in labelled.values()):
        return dict(sources)
    if len({source.classes for source in labelled.values()}) < 2:
        return dict(sources)
    named = {name: source.classes for name, source in labelled.items() if source.classes}
    numbered = [name for name in labelled if name not in named]
    if numbered:
        other = next(iter(named))
        raise DataError(
            f"labels of split {numbered[0]} are whole numbers and those of split {other} names of "
            f"classes ({classes_text(named[other])}): write both in one way."
        )
    reference = "train" if "train" in named else max(named, key=lambda name: len(named[name]))
    # A folder without images stands for a class of which another split has images.
    empty = set(sources[reference].empty_classes).intersection(*[set().union(*named.values())])
    classes = tuple(sorted({*named[reference], *empty}))
    unified = dict(sources)
    for name, own in named.items():
        if own == classes:
            continue
        if extra := [label for label in own if label not in classes]:
            raise DataError(
                f"split {name} has the classes {classes_text(own)}, and split {reference} "
                f"{classes_text(classes)}, without {extra[0]!r}, which would have no number there: "
                "give each split a store of its own."
            )
        note(
            f"split {name} has {len(own)} of the {len(classes)} classes of {reference}; it uses "
            "the same numbers, matched by class name"
        )
        unified[name] = RelabelledSource(sources[name], new_classes=classes)
    return unified
