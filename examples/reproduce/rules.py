"""The rules of docs/reproduction.md, applied to correlations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deciding import (
    ACCURACY,
    AREAS,
    CNA,
    CNA_MARGIN,
    GAPS,
    MEAN_ALPHA,
    OTHERS,
    SMOOTHED_OF_SCRIPTS,
    Row,
)
from tasks import TASKS

# Tasks of the eight in which something must hold.
MOST = 7
_FEWEST = 3
_PUBLISHED = 0.98


@dataclass(frozen=True)
class Verdict:
    """What a rule says.

    Attributes
    ----------
    rule : int
        Its number.
    of : str
        What it was decided for, such as the form of a measure.
    holds : bool
    evidence : str
        The numbers behind it.
    """

    rule: int
    of: str
    holds: bool
    evidence: str


def apply_rules(correlations: Sequence[Row], differences: Sequence[Row]) -> list[Verdict]:
    """Apply all rules.

    Parameters
    ----------
    correlations, differences : sequence of dict
        As `deciding.correlate` returns them.
    """
    rows = {(row["subset"], row["target"], row["measure"]): row for row in correlations}
    pairs = {
        (row["subset"], row["target"], row["first"], row["second"]): row for row in differences
    }
    verdicts: list[Verdict] = []
    for form, measure in CNA.items():
        follows = [
            rows.get(("good", ACCURACY, measure)),
            pairs.get(("good", ACCURACY, measure, MEAN_ALPHA)),
        ]
        verdicts.append(
            Verdict(
                1,
                f"{form} CNA",
                all(map(_is_above_zero, follows)),
                f"{_describe(follows[0])}; |r| − |r| of mean α {_describe(follows[1])}",
            )
        )
        within = [rows.get((f"good {task}", ACCURACY, measure)) for task in TASKS]
        positive = sum(_is_positive(row) for row in within)
        verdicts.append(
            Verdict(2, f"{form} CNA", positive >= MOST, f"{positive} of {len(TASKS)} tasks")
        )
    for gap in GAPS:
        leads = {other: pairs.get(("all", gap, CNA_MARGIN, other)) for other in OTHERS}
        beaten = [other for other, row in leads.items() if _is_above_zero(row)]
        verdicts.append(
            Verdict(
                3,
                gap,
                len(beaten) == len(OTHERS),
                f"{_describe(rows.get(('all', gap, CNA_MARGIN)))}; above "
                + (", ".join(beaten) or "none"),
            )
        )
        for form, measure in AREAS.items():
            found = [rows.get((f"all {task}", gap, measure)) for task in TASKS]
            above = sum(map(_is_above_zero, found))
            verdicts.append(
                Verdict(4, f"{form}, {gap}", above >= MOST, f"{above} of {len(TASKS)} tasks")
            )
        inside = {
            measure: _contains(rows.get(("all mnist", gap, measure)), _PUBLISHED)
            for measure in (SMOOTHED_OF_SCRIPTS, *AREAS.values())
        }
        smoothed, *areas = inside.values()
        within_mnist = (f"{m} {_describe(rows.get(('all mnist', gap, m)))}" for m in inside)
        verdicts.append(Verdict(5, gap, smoothed and not any(areas), "; ".join(within_mnist)))
    return sorted(verdicts, key=lambda verdict: verdict.rule)


def list_lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield a line for each verdict."""
    for verdict in verdicts:
        holds = "holds" if verdict.holds else "does not hold"
        yield f"rule {verdict.rule}, {verdict.of}: {holds} ({verdict.evidence})"


def _is_above_zero(row: Row | None) -> bool:
    low = None if row is None else row["low"]
    return isinstance(low, float) and low > 0


def _is_positive(row: Row | None) -> bool:
    if row is None or not isinstance(row["networks"], int) or row["networks"] < _FEWEST:
        return False
    return isinstance(row["r"], float) and row["r"] > 0


def _contains(row: Row | None, magnitude: float) -> bool:
    if row is None or not (isinstance(row["low"], float) and isinstance(row["high"], float)):
        return False
    return row["low"] <= magnitude <= row["high"] or row["low"] <= -magnitude <= row["high"]


def _describe(row: Row | None) -> str:
    value = None if row is None else row.get("r", row.get("difference"))
    if row is None or not isinstance(value, float):
        return "undefined"
    if not (isinstance(row["low"], float) and isinstance(row["high"], float)):
        return f"{value:.2f} without an interval"
    return f"{value:.2f} ({row['low']:.2f} … {row['high']:.2f})"
