"""The columns that a study correlates measures with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cnatool._util.text import printable, suggest_name
from cnatool.errors import DataError, UsageError
from cnatool.studying.columns import TARGETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars

    from cnatool.metrics.convention import Convention

_SAMPLES = "test.samples"


class Targets(NamedTuple):
    """The targets of a study, and those for which the sign error weights pairs of networks."""

    names: tuple[str, ...]
    weighted: tuple[str, ...]
    test_samples: int | None  # behind the weights


def select_targets(
    networks: polars.DataFrame, named: Sequence[str] | None, convention: Convention | None
) -> Targets:
    """Select the named columns of a frame of networks, by default those of `TARGETS`.

    `convention` is that by which the networks were scored, if it is known.
    """
    from polars import Float64

    numbers = [name for name, kind in networks.schema.items() if kind == Float64]
    if named is None:
        names = tuple(target for target in TARGETS if target in numbers)
        if not names:
            raise DataError(
                f"the networks have none of the columns {' and '.join(TARGETS)}. Name others with "
                "`targets`."
            )
    else:
        names = (named,) if isinstance(named, str) else tuple(dict.fromkeys(named))
        _check_names(names, numbers)
    samples = _count_test_samples(networks)
    weighted = [t for t in names if samples and _is_of_accuracies(t, networks, convention)]
    return Targets(names, tuple(weighted), samples if weighted else None)


def _check_names(names: Sequence[str], numbers: Sequence[str]) -> None:
    if not names:
        raise UsageError("`targets`: name at least one column.")
    for name in names:
        if name not in numbers:
            raise UsageError(
                f"`targets` {printable(name)}: no column of numbers has this name. "
                f"{suggest_name(name, numbers)}"
            )


def _count_test_samples(networks: polars.DataFrame) -> int | None:
    """Return the number of test samples behind all accuracies; None unless all are known."""
    if _SAMPLES not in networks.columns or networks[_SAMPLES].null_count():
        return None
    # The smallest number makes no pair look more certain than it is.
    return int(min(networks[_SAMPLES].to_list()))


def _is_of_accuracies(
    target: str, networks: polars.DataFrame, convention: Convention | None
) -> bool:
    """Whether a target is the accuracy on test data, or a difference from it."""
    if target != "gap":
        return target in ("test.accuracy", "gap_accuracy")
    if convention is not None:
        return convention.fields.gap == "accuracy"
    return not ("gap_loss" in networks.columns and networks["gap_loss"].equals(networks[target]))
