"""How often rule 1 of docs/reproduction.md would hold if CNA did follow test accuracy.

python examples/reproduce/power.py FOLDER        prints a line for each true r

The networks keep their test accuracies, tasks and mean α. In place of CNA they get random numbers
with a given expected r with test accuracy. Part of their noise is the same for all networks of a
task, and another part for all of a run: as large shares as tasks and runs explain of the variance
of CNA. Intervals are those of the rules.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import polars as pl
from correlating import ACCURACY, CNA, MEAN_ALPHA, Subset
from numpy.typing import NDArray
from scipy import stats

from cnatool.studying.statistics.weighted import expanded_interval

Floats = NDArray[np.float64]


def explain_variance(values: Floats, groups: NDArray[np.int64]) -> float:
    """Compute the share of the variance of values that the means of groups explain."""
    means = np.bincount(groups, values) / np.bincount(groups)
    return float(np.var(means[groups]) / np.var(values))


def correlate(sums: Floats) -> Floats:
    """Compute Pearson's r from the sums of 1, x, y, x², y² and xy along the last axis."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    result: Floats = (n * xy - x * y) / np.sqrt((n * xx - x**2) * (n * yy - y**2))
    return result


def sum_by_task(x: Floats, y: Floats, tasks: NDArray[np.int64]) -> Floats:
    """Sum 1, x, y, x², y² and xy over the networks of each task, (tasks, 6)."""
    columns = (np.ones_like(x), x, y, x * x, y * y, x * y)
    return np.stack([np.bincount(tasks, column) for column in columns], axis=-1)


def estimate_power(
    networks: pl.DataFrame, true: float, simulations: int = 400, resamples: int = 1000
) -> tuple[float, float]:
    """Estimate how often the interval of r, and rule 1 as a whole, lie above 0.

    Parameters
    ----------
    networks : DataFrame
        The networks of rule 1.
    true : float
        The expected r with test accuracy.
    simulations, resamples : int
        Number of random measures, and of resamples of tasks for each.

    Returns
    -------
    (float, float)
        The shares of the simulations.
    """
    rng = np.random.default_rng(0)
    tasks, runs = (
        np.unique(networks[tag].to_numpy(), return_inverse=True)[1]
        for tag in ("tag.task", "tag.run")
    )
    accuracy = stats.zscore(networks[ACCURACY].to_numpy())
    cna = networks[CNA["raw"]].to_numpy()
    of_tasks, of_runs = explain_variance(cna, tasks), explain_variance(cna, runs)
    count = int(tasks.max()) + 1
    drawn = rng.integers(0, count, (resamples, count))
    times = np.stack([(drawn == task).sum(axis=1) for task in range(count)], axis=-1).astype(float)
    alpha = networks[MEAN_ALPHA].to_numpy()
    of_alpha = sum_by_task(stats.zscore(alpha), accuracy, tasks)
    held = np.zeros((simulations, 2), bool)
    for number in range(simulations):
        noise = math.sqrt(of_tasks) * rng.normal(size=count)[tasks]
        noise += math.sqrt(of_runs - of_tasks) * rng.normal(size=runs.max() + 1)[runs]
        noise += math.sqrt(1 - of_runs) * rng.normal(size=len(tasks))
        measure = true * accuracy + math.sqrt(1 - true**2) * noise
        with np.errstate(all="ignore"):
            r = correlate(times @ sum_by_task(measure, accuracy, tasks))
            lead = np.abs(r) - np.abs(correlate(times @ of_alpha))
        follows = _lies_above_zero(r, count)
        held[number] = follows, follows and _lies_above_zero(lead, count)
    return float(held[:, 0].mean()), float(held[:, 1].mean())


def _lies_above_zero(values: Floats, clusters: int) -> bool:
    interval, _ = expanded_interval(values, clusters=clusters, level=0.95)
    return interval is not None and interval[0] > 0


def main() -> None:
    """Print how often rule 1 would hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="with networks.parquet")
    options = parser.parse_args()
    networks = Subset("good").select(pl.read_parquet(options.folder / "networks.parquet"))
    for true in (0.3, 0.5, 0.8, 0.95):
        interval, rule = estimate_power(networks, true)
        print(f"r = {true}: interval above 0 in {interval:.0%}, rule 1 holds in {rule:.0%}")


if __name__ == "__main__":
    main()
