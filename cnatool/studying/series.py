"""Which stores are checkpoints of which run, and in which order."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from cnatool._util.text import list_names, natural_order, printable
from cnatool.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NO_TAG_NOTE = (
    "no tag numbers the checkpoints: steps are the places in which they were given; --order TAG"
)

# Other seeds are repetitions and no progress.
_SEED = "seed"


class Placed(NamedTuple):
    """A store's place in a series.

    Attributes
    ----------
    run : str or None
        Value of the tag that tells runs apart; None where there is but one run.
    step : float
        Where in the run it is.
    number : int
        Which of the stores it is.
    """

    run: str | None
    step: float
    number: int


class Series(NamedTuple):
    """Checkpoints in order.

    Attributes
    ----------
    order : str or None
        The tag whose number is the step; None where steps are the places in which the stores were
        given, from 1.
    placed : list of Placed
        Run by run, by rising step.
    """

    order: str | None
    placed: list[Placed]

    def among(self, stores: Sequence[int]) -> Series:
        """Keep some stores at their steps; each gets its number among them.

        Raises
        ------
        DataError
            If no run has two checkpoints any more.
        """
        numbers = {old: new for new, old in enumerate(stores)}
        placed = [
            Placed(one.run, one.step, numbers[one.number])
            for one in self.placed
            if one.number in numbers
        ]
        _check_counts(Counter(one.run for one in placed).values(), "")
        return Series(self.order, placed)


def no_place(
    tags: Mapping[str, str],
    others: Iterable[Mapping[str, str]],
    *,
    order: str | None,
    by: str | None,
) -> str | None:
    """Explain why a store has no place in a series where others have one; None if it has."""
    every = list(others)
    for option, tag in (("--by", by), ("--order", order)):
        if tag is not None and tag not in tags and any(tag in one for one in every):
            return f"it has no tag {printable(tag)}, which {option} names"
    if (
        order is not None
        and order in tags
        and _number(tags[order]) is None
        and any(_number(one.get(order)) is not None for one in every)
    ):
        return f"its tag {printable(order)} is {printable(tags[order])!r} and no number"
    return None


def series_of(
    names: Sequence[str],
    tags: Sequence[Mapping[str, str] | None],
    *,
    order: str | None,
    by: str | None,
) -> Series:
    """Put stores into the order of their steps.

    Parameters
    ----------
    names : sequence of str
        What to call each store.
    tags : sequence of mapping of str to str, or None
        Its tags; None where they cannot be read. Such a store has no step, but where steps are
        places it keeps its own.
    order : str or None
        The tag whose number is the step. By default, of the tags other than ``seed`` that are
        numbers in every store, the only one whose number differs between all stores of a run;
        where there is none, the order of the stores.
    by : str or None
        The tag that tells runs apart.

    Raises
    ------
    UsageError
        If a store lacks one of the tags, two stores of a run have the same step, several tags
        could be meant, another tag tells runs apart, or steps are places and the run of a store
        cannot be read.
    DataError
        If no run has two checkpoints.
    """
    numbers = [number for number, one in enumerate(tags) if one is not None]
    known_names = [names[number] for number in numbers]
    known_tags = [one for one in tags if one is not None]
    known = list(dict.fromkeys(tag for one in known_tags for tag in one))
    runs = _runs(known_names, known_tags, by, known)
    _check_counts(map(len, runs.values()), "" if by is None else f" of each {by}")
    if order is not None:
        steps = _steps(known_names, known_tags, order, known)
        _check_distinct(known_names, steps, runs, order, by)
    else:
        order = _default_order(known_tags, runs, known, by)
        if order is not None:
            steps = _steps(known_names, known_tags, order, known)
        elif by is None:
            steps = [float(number + 1) for number in numbers]
        else:
            _check_all_known(names, tags, by)
            steps = _places(runs)
    placed = []
    for run in sorted(runs, key=lambda name: natural_order(name or "")):
        inside = sorted(runs[run], key=lambda number: steps[number])
        placed += [Placed(run, steps[number], numbers[number]) for number in inside]
    return Series(order, placed)


def _check_counts(counts: Iterable[int], of_each: str) -> None:
    if max(counts, default=0) < 2:
        raise DataError(
            f"a series needs at least two checkpoints of a run, and there is 1 store{of_each}."
        )


def _check_all_known(
    names: Sequence[str], tags: Sequence[Mapping[str, str] | None], by: str
) -> None:
    without = [name for name, one in zip(names, tags, strict=True) if one is None]
    if without:
        raise UsageError(
            f"no tag numbers the checkpoints, so that steps are places in a run, and the {by} of "
            f"{list_names(without)} cannot be read. Name the tag of the step with --order, or "
            "leave these stores out."
        )


def _runs(
    names: Sequence[str], tags: Sequence[Mapping[str, str]], by: str | None, known: Sequence[str]
) -> dict[str | None, list[int]]:
    if by is not None:
        _check_tag("--by", by, [by in one for one in tags], names, known)
    runs: dict[str | None, list[int]] = {}
    for number, one in enumerate(tags):
        runs.setdefault(None if by is None else one[by], []).append(number)
    return runs


def _check_tag(
    option: str, tag: str, there: Sequence[bool], names: Sequence[str], known: Sequence[str]
) -> None:
    if not any(there):
        raise UsageError(f"{option} {tag}: no store has this tag; there are {list_names(known)}.")
    without = [name for name, has in zip(names, there, strict=True) if not has]
    if without:
        raise UsageError(
            f"{option} {tag}: {len(without)} stores do not have this tag ({list_names(without)})."
        )


def _steps(
    names: Sequence[str], tags: Sequence[Mapping[str, str]], order: str, known: Sequence[str]
) -> list[float]:
    _check_tag("--order", order, [order in one for one in tags], names, known)
    steps = []
    for name, one in zip(names, tags, strict=True):
        step = _number(one[order])
        if step is None:
            raise UsageError(
                f"--order {order}: a number is needed, and {name} has {printable(one[order])!r}."
            )
        steps.append(step)
    return steps


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _check_distinct(
    names: Sequence[str],
    steps: Sequence[float],
    runs: Mapping[str | None, Sequence[int]],
    order: str,
    by: str | None,
) -> None:
    for run, inside in runs.items():
        first: dict[float, int] = {}
        for number in inside:
            other = first.setdefault(steps[number], number)
            if other != number:
                where = "" if run is None else f" of {by} {printable(run)}"
                advice = (
                    "Name the tag that tells runs apart with --by"
                    if by is None
                    else "A run has one store at each step"
                )
                raise UsageError(
                    f"--order {order}: {names[other]} and {names[number]}{where} are both at "
                    f"{steps[number]:.12g}. {advice}."
                )


def _default_order(
    tags: Sequence[Mapping[str, str]],
    runs: Mapping[str | None, Sequence[int]],
    known: Sequence[str],
    by: str | None,
) -> str | None:
    numeric = {
        tag: numbers
        for tag in known
        if tag not in (by, _SEED)
        and None not in (numbers := [_number(one.get(tag)) for one in tags])
    }
    found = [
        tag
        for tag, numbers in numeric.items()
        if all(len({numbers[i] for i in inside}) == len(inside) for inside in runs.values())
    ]
    if len(found) > 1:
        names = " and ".join(map(printable, found))
        raise UsageError(f"each of the tags {names} could be the step: name one with --order.")
    if found:
        return found[0]
    for tag, numbers in numeric.items():
        for other in known if by is None else ():
            pairs = {(one.get(other), number) for one, number in zip(tags, numbers, strict=True)}
            if len(set(numbers)) > 1 and other != tag and len(pairs) == len(tags):
                step, run = printable(tag), printable(other)
                raise UsageError(
                    f"several stores are at one {step}, and {run} tells them apart: --order {step} "
                    f"--by {run}."
                )
    return None


def _places(runs: Mapping[str | None, Sequence[int]]) -> list[float]:
    places = {number: place for inside in runs.values() for place, number in enumerate(inside, 1)}
    return [float(places[number]) for number in range(len(places))]
