"""The rules of docs/reproduction.md, applied to correlations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from correlating import (
    ACCURACY,
    AREAS,
    CNA,
    CNA_MARGIN,
    FEWEST,
    GAPS,
    MEAN_ALPHA,
    OTHERS,
    SMOOTHED_OF_SCRIPTS,
    Correlation,
    Difference,
    Estimate,
    Subset,
)
from docs_tables import format_estimate
from tasks import TASKS

# Tasks of the eight in which something must hold.
MOST = 7
_PUBLISHED = 0.98
_GOOD, _ALL, _MNIST = Subset("good"), Subset("all"), Subset("all", "mnist")


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


class Evidence:
    """Correlations and differences, found by what they are of.

    Parameters
    ----------
    correlations : sequence of Correlation
    differences : sequence of Difference
        As `correlating.correlate` returns them.
    """

    def __init__(
        self, correlations: Sequence[Correlation], differences: Sequence[Difference]
    ) -> None:
        self._correlations = {
            (each.kind, each.task, each.target, each.measure): each for each in correlations
        }
        self._differences = {
            (each.kind, each.task, each.target, each.first, each.second): each
            for each in differences
        }

    def correlation(self, subset: Subset, target: str, measure: str) -> Correlation | None:
        """Return the correlation of a measure; None if there were too few networks."""
        return self._correlations.get((subset.kind, subset.task, target, measure))

    def difference(self, subset: Subset, target: str, first: str, second: str) -> Difference | None:
        """Return the difference of two magnitudes; None if there were too few networks."""
        return self._differences.get((subset.kind, subset.task, target, first, second))


def apply_rules(
    correlations: Sequence[Correlation], differences: Sequence[Difference]
) -> list[Verdict]:
    """Apply all rules to what `correlating.correlate` returns."""
    evidence = Evidence(correlations, differences)
    rules = (_cna_follows, _about_networks, _margin_leads, _area_follows, _column_is_smoothed)
    return [verdict for rule in rules for verdict in rule(evidence)]


def _cna_follows(evidence: Evidence) -> Iterator[Verdict]:
    """Rule 1: CNA follows test accuracy, more closely than mean α does."""
    for form, measure in CNA.items():
        follows = evidence.correlation(_GOOD, ACCURACY, measure)
        leads = evidence.difference(_GOOD, ACCURACY, measure, MEAN_ALPHA)
        numbers = f"{_describe(follows)}; |r| minus |r| of mean α: {_describe(leads)}"
        holds = _is_above_zero(follows) and _is_above_zero(leads)
        yield Verdict(1, f"{form} CNA", holds, numbers)


def _about_networks(evidence: Evidence) -> Iterator[Verdict]:
    """Rule 2: r of CNA is positive within most tasks."""
    for form, measure in CNA.items():
        positive = sum(
            _is_positive(evidence.correlation(Subset("good", task), ACCURACY, measure))
            for task in TASKS
        )
        yield Verdict(2, f"{form} CNA", positive >= MOST, _count_tasks(positive))


def _margin_leads(evidence: Evidence) -> Iterator[Verdict]:
    """Rule 3: CNA-M comes first among all measures of the gap."""
    for gap in GAPS:
        beaten = [
            other
            for other in OTHERS
            if _is_above_zero(evidence.difference(_ALL, gap, CNA_MARGIN, other))
        ]
        found = _describe(evidence.correlation(_ALL, gap, CNA_MARGIN))
        numbers = f"{found}; above {', '.join(beaten) or 'none'}"
        yield Verdict(3, gap, len(beaten) == len(OTHERS), numbers)


def _area_follows(evidence: Evidence) -> Iterator[Verdict]:
    """Rule 4: CNA-A follows the gap within most tasks."""
    for gap in GAPS:
        for form, measure in AREAS.items():
            above = sum(
                _is_above_zero(evidence.correlation(Subset("all", task), gap, measure))
                for task in TASKS
            )
            yield Verdict(4, f"{form}, {gap}", above >= MOST, _count_tasks(above))


def _column_is_smoothed(evidence: Evidence) -> Iterator[Verdict]:
    """Rule 5: on MNIST, the published number fits the smoothed CNA and not CNA-A."""
    for gap in GAPS:
        found = {
            measure: evidence.correlation(_MNIST, gap, measure)
            for measure in (SMOOTHED_OF_SCRIPTS, *AREAS.values())
        }
        numbers = "; ".join(f"`{measure}`: {_describe(each)}" for measure, each in found.items())
        smoothed, *areas = found.values()
        # Without an interval, CNA-A does not contradict anything.
        holds = _contains(smoothed, _PUBLISHED) and all(
            _has_interval(area) and not _contains(area, _PUBLISHED) for area in areas
        )
        yield Verdict(5, gap, holds, numbers)


def list_lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield a line for each verdict."""
    for verdict in verdicts:
        holds = "holds" if verdict.holds else "does not hold"
        yield f"rule {verdict.rule}, {verdict.of}: {holds} ({verdict.evidence})"


def _count_tasks(number: int) -> str:
    return f"{number} of {len(TASKS)} tasks"


def _is_above_zero(found: Estimate | None) -> bool:
    return found is not None and found.low is not None and found.low > 0


def _is_positive(found: Correlation | None) -> bool:
    if found is None or found.networks < FEWEST:
        return False
    return found.value is not None and found.value > 0


def _has_interval(found: Correlation | None) -> bool:
    return found is not None and found.low is not None and found.high is not None


def _contains(found: Correlation | None, magnitude: float) -> bool:
    if found is None or found.low is None or found.high is None:
        return False
    return found.low <= magnitude <= found.high or found.low <= -magnitude <= found.high


def _describe(found: Estimate | None) -> str:
    if found is None or found.value is None:
        return "undefined"
    without = " without an interval" if found.low is None or found.high is None else ""
    return f"{format_estimate(found.value, found.low, found.high)}{without}"
