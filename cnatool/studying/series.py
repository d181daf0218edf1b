"""The order of checkpoints in one or more runs."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from cnatool._util.text import list_names, natural_order, printable
from cnatool.errors import DataError, UsageError
from cnatool.studying.columns import describe_tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NO_TAG_NOTE = (
    "no tag gives the steps of the checkpoints: steps are the positions in which they were given; "
    "name a tag with `order`"
)

# Seeds number repetitions, not steps.
_SEED = "seed"


class Checkpoint(NamedTuple):
    """A store's place in a series."""

    run: str | None  # value of the tag that separates runs; None where there is a single run
    step: float
    number: int  # index of the store


class Series(NamedTuple):
    """Checkpoints run by run, by rising step."""

    order: str | None  # the tag whose number is the step; None where steps are positions from 1
    checkpoints: list[Checkpoint]

    def select(self, stores: Sequence[int]) -> Series:
        """Keep some stores at their steps, renumbered by their position in `stores`.

        Raises
        ------
        DataError
            If no run has two checkpoints left.
        """
        numbers = {old: new for new, old in enumerate(stores)}
        kept = [
            c._replace(number=numbers[c.number]) for c in self.checkpoints if c.number in numbers
        ]
        _check_counts(Counter(c.run for c in kept).values(), "")
        return Series(self.order, kept)


def explain_exclusion(
    tags: Mapping[str, str],
    others: Iterable[Mapping[str, str]],
    *,
    order: str | None,
    by: str | None,
) -> str | None:
    """Explain why a store cannot be placed in a series in which others can; None if it can."""
    others = list(others)
    for parameter, tag in (("by", by), ("order", order)):
        if tag is not None and tag not in tags and any(tag in other for other in others):
            return f"it has no tag {printable(tag)}, which `{parameter}` names"
    if (
        order is not None
        and order in tags
        and _parse_number(tags[order]) is None
        and any(_parse_number(other.get(order)) is not None for other in others)
    ):
        return f"its tag {printable(order)} is {printable(tags[order])!r}, not a number"
    return None


def order_checkpoints(
    names: Sequence[str],
    tags: Sequence[Mapping[str, str] | None],
    *,
    order: str | None,
    by: str | None,
) -> Series:
    """Sort stores by run and step.

    Parameters
    ----------
    names : sequence of str
        Name of each store, for messages.
    tags : sequence of mapping of str to str, or None
        Tags of each store; None where they cannot be read. Such a store has no step, but where
        steps are positions it keeps its own.
    order : str or None
        The tag whose number is the step. By default, of the tags other than ``seed`` that are
        numbers in every store, the only one whose number differs between all stores of a run;
        if there is none, the order of the stores.
    by : str or None
        The tag that separates runs.

    Raises
    ------
    UsageError
        If a store lacks one of the tags, two stores of a run have the same step, several tags
        could be the step, another tag separates runs, or steps are positions and the run of a
        store cannot be read.
    DataError
        If no run has two checkpoints.
    """
    numbers = [number for number, store_tags in enumerate(tags) if store_tags is not None]
    stores = _Stores(
        [names[number] for number in numbers],
        [store_tags for store_tags in tags if store_tags is not None],
        by,
    )
    runs = stores.split_runs()
    _check_counts(map(len, runs.values()), "" if by is None else f" of each {by}")
    if order is not None:
        steps = stores.parse_steps(order)
        _check_distinct(stores.names, steps, runs, order, by)
    else:
        order = stores.find_order(runs)
        if order is not None:
            steps = stores.parse_steps(order)
        elif by is None:
            steps = [float(number + 1) for number in numbers]
        else:
            _check_readable(names, tags, by)
            positions = {i: step for run in runs.values() for step, i in enumerate(run, start=1)}
            steps = [float(positions[i]) for i in range(len(positions))]
    checkpoints = []
    for run in sorted(runs, key=lambda name: natural_order(name or "")):
        ordered = sorted(runs[run], key=lambda i: steps[i])
        checkpoints += [Checkpoint(run, steps[i], numbers[i]) for i in ordered]
    return Series(order, checkpoints)


class _Stores(NamedTuple):
    """Stores whose tags are known, and the tag that separates runs."""

    names: Sequence[str]
    tags: Sequence[Mapping[str, str]]
    by: str | None

    def list_tags(self) -> list[str]:
        return list(dict.fromkeys(tag for tags in self.tags for tag in tags))

    def split_runs(self) -> dict[str | None, list[int]]:
        """Return the indices of the stores of each run."""
        if self.by is not None:
            self.check_tag("by", self.by)
        runs: dict[str | None, list[int]] = {}
        for number, tags in enumerate(self.tags):
            runs.setdefault(None if self.by is None else tags[self.by], []).append(number)
        return runs

    def check_tag(self, parameter: str, tag: str) -> None:
        without = [
            name for name, tags in zip(self.names, self.tags, strict=True) if tag not in tags
        ]
        if len(without) == len(self.names):
            raise UsageError(
                f"`{parameter}` {tag}: no store has this tag; {describe_tags(self.list_tags())}."
            )
        if without:
            raise UsageError(
                f"`{parameter}` {tag}: {len(without)} stores do not have this tag "
                f"({list_names(without)})."
            )

    def parse_steps(self, order: str) -> list[float]:
        self.check_tag("order", order)
        steps = []
        for name, tags in zip(self.names, self.tags, strict=True):
            step = _parse_number(tags[order])
            if step is None:
                raise UsageError(
                    f"`order` {order}: a number is needed, and {name} has "
                    f"{printable(tags[order])!r}."
                )
            steps.append(step)
        return steps

    def find_order(self, runs: Mapping[str | None, Sequence[int]]) -> str | None:
        """Find the only tag whose number differs between all stores of each run."""
        known = self.list_tags()
        numeric = {
            tag: numbers
            for tag in known
            if tag not in (self.by, _SEED)
            and None not in (numbers := [_parse_number(tags.get(tag)) for tags in self.tags])
        }
        candidates = [
            tag
            for tag, numbers in numeric.items()
            if all(len({numbers[i] for i in run}) == len(run) for run in runs.values())
        ]
        if len(candidates) > 1:
            names = " and ".join(map(printable, candidates))
            raise UsageError(f"each of the tags {names} could be the step: name one with `order`.")
        if candidates:
            return candidates[0]
        for tag, numbers in numeric.items():
            for other in known if self.by is None else ():
                values = [tags.get(other) for tags in self.tags]
                distinct = len(set(zip(values, numbers, strict=True)))
                if len(set(numbers)) > 1 and other != tag and distinct == len(values):
                    step, run = printable(tag), printable(other)
                    raise UsageError(
                        f"several stores have the same {step}, and {run} separates them: give "
                        f"`order` {step} and `by` {run}."
                    )
        return None


def _parse_number(text: str | None) -> float | None:
    """Parse a finite number; None if the text is not one."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _check_counts(counts: Iterable[int], of_each: str) -> None:
    if max(counts, default=0) < 2:
        raise DataError(
            f"a series needs at least two checkpoints of a run, and there is 1 store{of_each}."
        )


def _check_readable(
    names: Sequence[str], tags: Sequence[Mapping[str, str] | None], by: str
) -> None:
    unreadable = [name for name, known in zip(names, tags, strict=True) if known is None]
    if unreadable:
        raise UsageError(
            "no tag gives the steps of the checkpoints, so steps are positions in a run, but the "
            f"{by} of {list_names(unreadable)} cannot be read. Name the tag of the step with "
            "`order`, or leave these stores out."
        )


def _check_distinct(
    names: Sequence[str],
    steps: Sequence[float],
    runs: Mapping[str | None, Sequence[int]],
    order: str,
    by: str | None,
) -> None:
    for run, members in runs.items():
        first: dict[float, int] = {}
        for number in members:
            other = first.setdefault(steps[number], number)
            if other != number:
                where = "" if run is None else f" of {by} {printable(run)}"
                advice = (
                    "Name the tag that separates runs with `by`"
                    if by is None
                    else "A run has one store at each step"
                )
                raise UsageError(
                    f"`order` {order}: {names[other]} and {names[number]}{where} are both at "
                    f"{steps[number]:.12g}. {advice}."
                )
