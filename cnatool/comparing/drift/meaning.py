"""What the numbers of a drift mean, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.text import count_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.comparing.drift.results import Comparisons
    from cnatool.metrics.drift import Correction

_CONTROLLED = {
    "benjamini-hochberg": (
        "Benjamini–Hochberg",
        "the expected share of false discoveries among them is at most {level:g} if tests are "
        "independent or positively dependent",
    ),
    "benjamini-yekutieli": (
        "Benjamini–Yekutieli",
        "the expected share of false discoveries among them is at most {level:g}",
    ),
    "bonferroni": (
        "Bonferroni",
        "the probability of even one false discovery is at most {level:g}",
    ),
}


def explain_numbers(
    units: Comparisons, tensors: Comparisons, correction: Correction, level: float
) -> Iterator[str]:
    """Yield sentences on the distances, what is tested, and the number of comparisons."""
    yield (
        "KS is the largest distance between the two distribution functions of all values of a "
        "unit; if it is computed from histograms, it is at least the number shown and at most the "
        "one in brackets. SMD is the difference of the means in pooled standard deviations"
    )
    yield (
        "p tests whether the means of a unit over the positions of a sample have the same "
        "distribution in both sets (Kolmogorov–Smirnov, two-sided); each sample counts once, "
        "because the values at its positions are not independent. The test assumes that samples "
        "are drawn independently"
    )
    name, controlled = _CONTROLLED[correction]
    compared = [
        f"{each.drifting:,} of {count_text(each.comparisons, noun)}"
        for each, noun in ((units, "unit"), (tensors, "tensor mean"))
        if each.comparisons
    ]
    if compared:
        yield (
            f"after adjustment for the number of comparisons ({name}), p is at most {level:g} for "
            f"{' and for '.join(compared)}: {controlled.format(level=level)}"
        )
    yield (
        "with many samples, even the smallest drift has a small p: KS and SMD show whether it "
        "matters"
    )
