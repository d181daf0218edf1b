"""Samples with labels that differ from their source's: shifted, renumbered, or dropped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.text import classes_text
from cnatool.data.wrappers import SourceWrapper
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cnatool.data.source import Block, Source


@dataclass(frozen=True, slots=True)
class RelabelledSource(SourceWrapper):
    """A source whose labels are changed on their way.

    Attributes
    ----------
    source : Source
    offset : int
        What is added to every label.
    keeps : bool
        Whether labels are given, if the source has any.
    renumbered : tuple of str or None
        Names of the classes 0, 1, … as another split has them, among which are all of the source's.
    """

    offset: int = 0
    keeps: bool = True
    renumbered: tuple[str, ...] | None = None

    @property
    def labelled(self) -> bool:
        """Whether blocks carry labels."""
        return self.keeps and self.source.labelled

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the labels; none of shifted ones, which are not the classes of the source."""
        if not self.keeps or self.offset:
            return None
        return self.renumbered or self.source.classes

    def blocks(self, rows: int, limit: int | None = None) -> Iterator[Block]:
        """Give the source's blocks with changed labels."""
        places = None
        if self.renumbered is not None:
            number = {name: i for i, name in enumerate(self.renumbered)}
            places = np.array([number[name] for name in self.source.classes or ()], np.int64)
        for block in self.source.blocks(rows, limit):
            labels = block.labels
            if not self.keeps or labels is None:
                yield replace(block, labels=None)
                continue
            # The label of a row that cannot be read means nothing.
            if places is not None:
                labels = places[labels]
            yield replace(block, labels=labels + self.offset)


def unify_classes(sources: Mapping[str, Source], note: Callable[[str], None]) -> dict[str, Source]:
    """Let one label mean one class in all splits, where names of classes allow it.

    Classes that are numbered by their names alone have other numbers where a split lacks some of
    them. Such splits take the numbers of the training split, or of the one that has all names.

    Parameters
    ----------
    sources : mapping of str to Source
        By split.
    note : callable
        Told which splits are renumbered.

    Raises
    ------
    DataError
        If the labels of some splits are whole numbers and those of others are names, or no split
        has the names of all.
    """
    labelled = {name: source for name, source in sources.items() if source.labelled}
    if not all(getattr(source, "counted", False) for source in labelled.values()):
        return dict(sources)
    if len({source.classes for source in labelled.values()}) < 2:
        return dict(sources)
    named = {name: source.classes for name, source in labelled.items() if source.classes}
    numbers = [name for name in labelled if name not in named]
    if numbers:
        other = next(iter(named))
        raise DataError(
            f"labels of split {numbers[0]} are whole numbers and those of split {other} names of "
            f"classes ({classes_text(named[other])}): write both in one way."
        )
    reference = "train" if "train" in named else max(named, key=lambda name: len(named[name]))
    # A folder without a picture stands for a class that another split has pictures of.
    spare = set(getattr(sources[reference], "spare", ()))
    spare.intersection_update(*[set().union(*named.values())])
    classes = tuple(sorted({*named[reference], *spare}))
    renumbered = dict(sources)
    for name, held in named.items():
        if held == classes:
            continue
        if more := [one for one in held if one not in classes]:
            raise DataError(
                f"split {name} has the classes {classes_text(held)}, and split {reference} "
                f"{classes_text(classes)}, without {more[0]!r}, so that a label of its own would "
                "have no class there: give each split a store of its own."
            )
        note(
            f"split {name} has {len(held)} of the {len(classes)} classes of {reference} and takes "
            "their numbers by name"
        )
        renumbered[name] = RelabelledSource(sources[name], renumbered=classes)
    return renumbered
