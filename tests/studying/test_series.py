"""Which stores are steps of which run."""

from __future__ import annotations

import pytest

from cnatool.errors import DataError, UsageError
from cnatool.studying.series import order_checkpoints


def tags(**columns: str) -> list[dict[str, str]]:
    """Tags of stores, a word a store; ``-`` for one that lacks the tag."""
    rows = zip(*(text.split() for text in columns.values()), strict=True)
    return [
        {key: word for key, word in zip(columns, row, strict=True) if word != "-"} for row in rows
    ]


def found(
    some: list[dict[str, str]], order: str | None = None, by: str | None = None
) -> tuple[str | None, list[tuple[str | None, float, int]]]:
    names = [f"s{i}" for i in range(len(some))]
    series = order_checkpoints(names, some, order=order, by=by)
    return series.order, [tuple(one) for one in series.checkpoints]


def test_the_only_number_that_differs_orders() -> None:
    some = tags(epoch="10 9 0.5", lr="1 1 1", name="a b c", seed="3 2 1")
    expected = [(None, 0.5, 2), (None, 9.0, 1), (None, 10.0, 0)]
    assert found(some) == ("epoch", expected)
    assert found(some, order="epoch") == ("epoch", expected)
    assert found(some, order="seed")[1][0] == (None, 1.0, 2)


def test_runs_in_natural_order_each_by_its_steps() -> None:
    some = tags(epoch="2 1 2 1", run="10 10 9 9")
    assert found(some, by="run") == (
        "epoch",
        [("9", 1.0, 3), ("9", 2.0, 2), ("10", 1.0, 1), ("10", 2.0, 0)],
    )


def test_places_where_no_tag_numbers_the_stores() -> None:
    expected = [(None, 1.0, 0), (None, 2.0, 1), (None, 3.0, 2)]
    assert found(tags(name="c b a")) == (None, expected)
    assert found([{}, {}, {}]) == (None, expected)
    assert found(tags(lr="0.1 0.1 0.01")) == (None, expected)
    assert found(tags(epoch="1 2 last")) == (None, expected)
    assert found(tags(run="a b a b", x="p q r s"), by="run") == (
        None,
        [("a", 1.0, 0), ("a", 2.0, 2), ("b", 1.0, 1), ("b", 2.0, 3)],
    )


@pytest.mark.parametrize(
    ("some", "order", "by", "message"),
    [
        (tags(epoch="1 2", step="10 20"), None, None,
         "each of the tags epoch and step could be the step: name one with `order`."),
        (tags(epoch="1 2 1", run="a a b"), None, None,
         "several stores have the same epoch, and run separates them: give `order` epoch and `by` "
         "run."),
        (tags(epoch="1 2 1", run="a a b"), "epoch", None,
         "`order` epoch: s0 and s2 are both at 1. Name the tag that separates runs with `by`."),
        (tags(step="1000000.5 1000000.5"), "step", None, "s0 and s1 are both at 1000000.5."),
        (tags(epoch="1 1 1", run="a a b"), "epoch", "run",
         "`order` epoch: s0 and s1 of run a are both at 1. A run has one store at each step."),
        (tags(epoch="1 2 -"), "epoch", None, "`order` epoch: 1 stores do not have this tag (s2)."),
        (tags(epoch="1 2 last"), "epoch", None,
         "`order` epoch: a number is needed, and s2 has 'last'."),
        (tags(epoch="1 2 nan"), "epoch", None, "a number is needed, and s2 has 'nan'."),
        (tags(epoch="1 2"), "step", None, "`order` step: no store has this tag; there are epoch."),
        (tags(epoch="1 2"), None, "run", "`by` run: no store has this tag; there are epoch."),
        ([{}, {}], None, "run", "`by` run: no store has this tag; there are no tags."),
        (tags(epoch="1 2", run="a -"), None, "run", "`by` run: 1 stores do not have this tag (s1)"),
    ],
)  # fmt: skip
def test_orders_that_are_not_clear(
    some: list[dict[str, str]], order: str | None, by: str | None, message: str
) -> None:
    with pytest.raises(UsageError) as raised:
        found(some, order, by)
    assert message in str(raised.value)


def test_one_checkpoint_is_no_series() -> None:
    with pytest.raises(DataError, match="at least two checkpoints of a run, and there is 1 store"):
        found(tags(epoch="1"))
    with pytest.raises(DataError, match="there is 1 store of each run"):
        found(tags(epoch="1 2", run="a b"), by="run")
