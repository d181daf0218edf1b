"""How fast are the coefficients and resamples of a score beside SciPy's?"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
import scipy.stats
from timing import compare

from cnatool.metrics.cna import cna
from cnatool.metrics.convention import ConventionFields
from cnatool.metrics.correlation import kendall, spearman


def compare_with_scipy(rounds: int) -> None:
    """Print ratios to SciPy's coefficients, bootstrap and permutation test."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=60_000)
    b = 0.6 * a + rng.normal(size=60_000)

    def ours(resamples: int, permutations: int) -> object:
        return cna(a, b, ConventionFields(resamples=resamples, permutations=permutations))

    bootstrap = partial(
        scipy.stats.bootstrap,
        (a, b),
        lambda x, y, axis: scipy.stats.pearsonr(x, y, axis=axis).statistic,
        paired=True,
        n_resamples=100,
        batch=10,
        method="percentile",
        vectorized=True,
    )
    test = partial(
        scipy.stats.permutation_test,
        (a,),
        lambda x: scipy.stats.pearsonr(x, b).statistic,
        permutation_type="pairings",
        n_resamples=100,
    )
    for title, peer, call in (
        ("Spearman", partial(scipy.stats.spearmanr, a, b), partial(spearman, a, b)),
        ("Kendall", partial(scipy.stats.kendalltau, a, b), partial(kendall, a, b)),
        ("bootstrap, 100 resamples", bootstrap, partial(ours, resamples=100, permutations=0)),
        ("permutations, SciPy 100", test, partial(ours, resamples=0, permutations=100)),
    ):
        compare(f"{title}, 60,000 samples", ("SciPy", peer), ("cnatool", call), rounds)


def main() -> None:
    """Print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    compare_with_scipy(options.rounds)


if __name__ == "__main__":
    main()
