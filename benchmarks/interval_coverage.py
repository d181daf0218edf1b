"""How often do 95 % intervals of many samples hold the truth, beside those of the plain bootstrap?

CNA from random groups of samples, CNA-A from stretches of a few resamples; of fewer samples than
they are meant for, which the plain bootstrap can resample in the time.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from cnatool.metrics import area_stretches
from cnatool.metrics import cna as coefficients
from cnatool.metrics.area import area_between, curve_area, sort_splits
from cnatool.metrics.area_resampling import add_interval, chance_area, resample_areas
from cnatool.metrics.cna import cna
from cnatool.metrics.convention import ConventionFields

WINDOW, RESAMPLES = 25, 400
NO_LIMIT = 1 << 62
TRUTH = 1 << 20  # samples from which a true coefficient is estimated, twenty times


def pairs(name: str, seed: tuple[int, ...], n: int) -> tuple[Any, Any]:
    """Draw α and β of n samples."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=(2, n))
    kind, _, number = name.partition(" ")
    r = float(number or 0.5)
    y = r * x + math.sqrt(1 - r * r) * z
    degrees = {"t5": 5, "t2": 2}.get(kind)
    if degrees:
        scale = np.sqrt(degrees / rng.chisquare(degrees, n))
        return x * scale, y * scale
    return {
        "normal": (x, y),
        "ties": (np.round(1.5 * x), np.round(1.5 * y)),
        "lognormal": (np.exp(x), np.exp(y)),
        "uneven": (x, r * x + np.abs(x) * z),
    }[kind]


PAIRS = (
    *(f"normal {r}" for r in ("0", "0.02", "0.6", "0.999")),
    *("t5 0.5", "t2 0.5", "ties 0.5", "lognormal 0.6", "uneven 0.3"),
)


def cover_cna(job: tuple[str, int], form: Any, n: int, true: float) -> list[bool]:
    """Whether the interval of the plain bootstrap contains the truth, and that of groups."""
    name, run = job
    alpha, beta = pairs(name, (7, run), n)
    fields = ConventionFields(cna=form, resamples=RESAMPLES, permutations=0, resample_seed=run)
    hits = []
    for many in (NO_LIMIT, 1):
        coefficients.MANY = many  # type: ignore[attr-defined]
        edges = cna(alpha, beta, fields).interval
        hits.append(edges is not None and edges[0] <= true <= edges[1])
    return hits


def true_coefficient(name: str, form: Any) -> float:
    """Return the coefficient of infinitely many samples, or of many."""
    kind, r = name.split()
    if kind == "normal":
        by_form: dict[str, Callable[[float], float]] = {
            "pearson": float,
            "spearman": lambda r: 6 / math.pi * math.asin(r / 2),
            "kendall": lambda r: 2 / math.pi * math.asin(r),
        }
        return by_form[form](float(r))
    fields = ConventionFields(cna=form, resamples=0, permutations=0)
    values = [cna(*pairs(name, (9, i), TRUTH), fields).value for i in range(20)]
    return float(np.mean(np.array(values, float)))


def splits(name: str, seed: int, sizes: tuple[int, int]) -> list[tuple[Any, Any]]:
    """Draw (α, β) of a training and a test split."""
    rng = np.random.default_rng([3, seed])
    drawn = []
    for which, n in enumerate(sizes):
        a, z = rng.random(n), rng.normal(size=n)
        gamma = rng.gamma(3, size=n)
        rounded = np.round(rng.normal(size=n), 2)
        drawn.append(
            {
                "alike": (8 * a, 2.4 * a + z),
                "different": (8 * a, (2.4 + 0.5 * which) * a + z),
                "ties": (rounded, 0.5 * rounded + 0.2 * which * np.sin(rounded) + z),
                "steep": (rounded + a / 99, 10 * np.tanh((1 + which / 10) * rounded) + 0.3 * z),
                "t3": (gamma, 0.3 * gamma + rng.standard_t(3, n)),
            }[name]
        )
    return drawn


SPLITS = ("alike", "different", "ties", "steep", "t3")


def measure(pair: list[tuple[Any, Any]]) -> float:
    """Return CNA-A."""
    area = curve_area(pair[0], pair[1], form="total", window=WINDOW, points=2).value
    assert area is not None
    return area


def cover_area(job: tuple[str, int], sizes: tuple[int, int], true: float) -> list[bool]:
    """Whether the two intervals of CNA-A contain the truth, and whether p by chance is ≤ 0.05."""
    name, run = job
    first, second = splits(name, run, sizes)
    area_stretches.MANY = 1  # type: ignore[attr-defined]
    curves = sort_splits(first, second, WINDOW)
    assert not isinstance(curves, str)
    starts = area_stretches.cut_stretches(*curves, "total", WINDOW)
    assert starts is not None
    settings: dict[str, Any] = {"window": WINDOW, "seed": run}
    plain = resample_areas(
        first,
        second,
        form="total",
        points=2,
        margins=np.empty((len(first[0]), 0)),
        margin=lambda rows: None,
        resamples=40,
        **settings,
    ).area
    stretched = area_stretches.resample_stretches(*curves, starts, resamples=100, **settings)
    chance = area_stretches.relabel_stretches(*curves, starts, relabellings=100, **settings)
    estimate = area_between(*curves, form="total", window=WINDOW, points=2)
    assert estimate.value is not None
    hits = []
    for values in (plain, stretched):
        edges = add_interval(estimate, values, 0.95).interval
        hits.append(edges is not None and edges[0] <= true <= edges[1])
    p_value = chance_area(estimate.value, chance, whole=area_stretches.WHOLE).p_value
    return [*hits, p_value is not None and p_value <= 0.05]


def main() -> None:
    """Print one line per coefficient and distribution."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=13_000)
    parser.add_argument("--test-samples", type=int, default=6500, help="of the test split, CNA-A")
    parser.add_argument("--runs", type=int, default=300)
    options = parser.parse_args()
    runs = range(options.runs)
    with ProcessPoolExecutor() as pool:
        for form in ("pearson", "spearman", "kendall"):
            for name in PAIRS:
                true = true_coefficient(name, form)
                call = partial(cover_cna, form=form, n=options.samples, true=true)
                shares = np.mean(list(pool.map(call, [(name, run) for run in runs])), axis=0)
                print(f"{form}, {name}: plain {shares[0]:.3f}, groups {shares[1]:.3f}", flush=True)
        sizes = options.samples, options.test_samples
        for name in SPLITS:
            true = float(np.mean([measure(splits(name, 10**6 + i, sizes)) for i in range(300)]))
            call = partial(cover_area, sizes=sizes, true=true)
            shares = np.mean(list(pool.map(call, [(name, run) for run in runs])), axis=0)
            print(
                f"CNA-A, {name}: plain {shares[0]:.3f}, stretches {shares[1]:.3f}, "
                f"p by chance ≤ 0.05 in {shares[2]:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
