"""Ψ, K and the sign error against formulas written out, a package of others, and known truths."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from cnatool.studying.statistics.granulated import find_coupled_pairs, granulated_kendall
from cnatool.studying.statistics.information import conditional_information, normalised_information
from cnatool.studying.statistics.sign_error import hoeffding_weight, sign_errors

NAMES = ("lr", "width", "depth")


def grid(seeds: int = 1, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Give levels of a 3×3×2 grid, a gap that depends on them, and a noisy measure of it."""
    rng = np.random.default_rng(seed)
    levels = np.array(list(itertools.product(range(3), range(3), range(2))) * seeds)
    gap = 0.05 * levels @ [1.0, -0.5, 0.7] + 0.02 * rng.normal(size=len(levels))
    return gap + 0.05 * noise * rng.normal(size=len(levels)), gap, levels


def axes(levels: np.ndarray) -> list:
    return [find_coupled_pairs(levels, axis) for axis in range(levels.shape[1])]


def ones(levels: np.ndarray) -> np.ndarray:
    return np.ones((1, len(levels)))


def literal_psi(measure: np.ndarray, gap: np.ndarray, levels: np.ndarray) -> list[float]:
    parts = []
    for axis in range(levels.shape[1]):
        cells = defaultdict(list)
        for i, row in enumerate(levels):
            cells[tuple(np.delete(row, axis))].append(i)
        taus = []
        for members in cells.values():
            signs = [
                np.sign(measure[i] - measure[j]) * np.sign(gap[i] - gap[j])
                for i in members
                for j in members
                if levels[i, axis] != levels[j, axis]
            ]
            if signs:
                taus.append(sum(signs) / len(signs))
        parts.append(sum(taus) / len(taus))
    return parts


@pytest.mark.parametrize("seeds", [1, 3])
def test_psi_is_its_formula(seeds: int) -> None:
    measure, gap, levels = grid(seeds)
    keep = np.random.default_rng(1).permutation(len(gap))[:-2]  # a grid with holes
    measure, gap, levels = np.round(measure, 2)[keep], gap[keep], levels[keep]
    whole, parts = granulated_kendall(measure, gap, levels, ones(levels))
    assert parts[0] == pytest.approx(literal_psi(measure, gap, levels))
    assert whole[0] == pytest.approx(np.mean(literal_psi(measure, gap, levels)))


def test_weighted_psi_is_that_of_repeated_networks() -> None:
    measure, gap, levels = grid(2)
    rng = np.random.default_rng(5)
    weights = rng.integers(0, 3, (4, len(gap)))
    found = granulated_kendall(measure, gap, levels, weights.astype(float))[0]
    for value, row in zip(found, weights, strict=True):
        again = np.repeat(np.arange(len(gap)), row)
        expected = literal_psi(measure[again], gap[again], levels[again])
        assert value == pytest.approx(np.mean(expected))


def test_psi_of_one_hyperparameter_and_of_none_that_varies_alone() -> None:
    measure = np.array([1.0, 2, 3, 4])
    gap = np.array([1.0, 2, 4, 3])
    one = np.arange(4)[:, None]
    assert granulated_kendall(measure, gap, one, ones(one))[0][0] == pytest.approx(4 / 6)
    both = np.stack([np.arange(4), np.arange(4)], axis=1)
    assert np.isnan(granulated_kendall(measure, gap, both, ones(both))[0][0])


def literal_information(
    measure: np.ndarray, gap: np.ndarray, given: np.ndarray
) -> tuple[float, float]:
    triples = Counter(
        (
            np.sign(measure[i] - measure[j]),
            np.sign(gap[i] - gap[j]),
            (*given[i], "|", *given[j]),
        )
        for i in range(len(gap))
        for j in range(len(gap))
        if i != j
    )
    total = sum(triples.values())

    def share(*places: int) -> Counter:
        counts: Counter = Counter()
        for triple, count in triples.items():
            counts[tuple(triple[p] for p in places)] += count / total
        return counts

    mu_u, g_u, u = share(0, 2), share(1, 2), share(2)
    information = sum(
        p * math.log(p * u[(key[2],)] / mu_u[key[0], key[2]] / g_u[key[1], key[2]])
        for key, p in share(0, 1, 2).items()
    )
    entropy = -sum(p * math.log(p / u[(key[1],)]) for key, p in g_u.items())
    return information, entropy


@pytest.mark.parametrize("columns", [[], [0], [2], [0, 1], [0, 1, 2]])
@pytest.mark.parametrize("digits", [2, 9])
def test_information_is_its_formula(columns: list[int], digits: int) -> None:
    measure, gap, levels = grid(2)
    measure, gap = np.round(measure, digits), np.round(gap, digits)
    found = conditional_information(measure, gap, levels[:, columns])
    assert found == pytest.approx(literal_information(measure, gap, levels[:, columns]), abs=1e-12)


def test_information_knows_the_truth() -> None:
    rng = np.random.default_rng(0)
    _, gap, levels = grid(4)
    for measure in (gap, -3 * gap):
        assert normalised_information(measure, gap, levels, NAMES).value == pytest.approx(1)
    noise = normalised_information(rng.normal(size=len(gap)), gap, levels, NAMES)
    assert noise.value < 0.05
    # The gap is what the learning rate makes it, and noise; so is the measure: K sees through it.
    lr = levels[:, 0]
    gap = lr + 0.1 * rng.normal(size=len(lr))
    confounded = normalised_information(lr + 0.1 * rng.normal(size=len(lr)), gap, levels, NAMES)
    assert confounded.unconditional > 0.3
    assert confounded.value < 0.05
    assert "lr" in confounded.given
    assert normalised_information(gap, np.ones(len(gap)), levels, NAMES).value is None


def literal_sign_errors(
    measure: np.ndarray, gap: np.ndarray, levels: np.ndarray, samples: int | None, least: float
) -> dict[int, list[float]]:
    pairs = defaultdict(list)
    for i, j in itertools.permutations(range(len(gap)), 2):
        differs = np.flatnonzero(levels[i] != levels[j])
        if len(differs) != 1:
            continue
        weight = 1.0
        if samples is not None:
            phi = 2 * math.exp(-2 * samples * ((gap[i] - gap[j]) / 2) ** 2)
            weight = max(0.0, max(0.0, 1 - phi) ** 2 - 0.5)
        error = (1 - np.sign(measure[i] - measure[j]) * np.sign(gap[i] - gap[j])) / 2
        pairs[differs[0], tuple(levels[i]), tuple(levels[j])].append((weight, error))
    found = defaultdict(list)
    for (axis, _, _), members in pairs.items():
        weights = np.array([w for w, _ in members])
        if weights.sum() and weights.sum() ** 2 / (weights**2).sum() > least - 1e-9:
            found[axis].append(float(weights @ [e for _, e in members] / weights.sum()))
    return found


@pytest.mark.parametrize("samples", [None, 500, 10000])
@pytest.mark.parametrize("least", [1, 4])
def test_sign_error_is_its_formula(samples: int | None, least: float) -> None:
    measure, gap, levels = grid(3, noise=2)
    found = sign_errors(
        measure,
        gap,
        levels,
        dict(zip(NAMES, axes(levels), strict=True)),
        samples=samples,
        least_pairs=least,
    )
    expected = literal_sign_errors(measure, gap, levels, samples, least)
    everything = [loss for losses in expected.values() for loss in losses]
    assert everything
    for name, losses in ((None, everything), *((NAMES[a], ls) for a, ls in expected.items())):
        one = found[name]
        assert one.environments == len(losses)
        assert one.mean == pytest.approx(np.mean(losses))
        assert one.percentile_90 == pytest.approx(np.percentile(losses, 90))
        assert one.max == pytest.approx(max(losses))


def test_sign_error_of_known_measures() -> None:
    _, gap, levels = grid(2)
    named = dict(zip(NAMES, axes(levels), strict=True))
    for measure, error in ((gap, 0), (-gap, 1), (np.ones(len(gap)), 0.5)):
        one = sign_errors(measure, gap, levels, named, samples=None, least_pairs=1)[None]
        assert (one.mean, one.percentile_90, one.max) == (error, error, error)
    none = sign_errors(gap, gap, levels, named, samples=None, least_pairs=12)[None]
    assert none.max is None
    assert none.reason == f"none of {none.left_out} environments has 12 effective pairs of networks"
    assert none.left_out == 2 * (18 + 18 + 9)


def test_weight_of_a_difference_that_may_be_chance() -> None:
    assert hoeffding_weight(np.array([0.0, 0.001, 0.1]), 10000) == pytest.approx(
        [0, 0, (1 - 2 * math.exp(-50)) ** 2]
    )


class TestAnotherPackage:
    """mbe-eval computes all three; it takes networks without ties."""

    @pytest.fixture
    def frame(self) -> object:
        pytest.importorskip("mbe_eval", reason="mbe-eval is not installed")
        import pandas as pd

        measure, gap, levels = grid(4, noise=1.5, seed=3)
        columns = dict(zip(NAMES, levels.T, strict=True))
        ids = ["-".join(map(str, row)) for row in levels]
        return pd.DataFrame({"config_id": ids, "gen.gap": gap, "m": measure, **columns})

    def test_psi(self, frame: object) -> None:
        from mbe_eval import granulated_kendall as peer

        one = frame[:18]  # type: ignore[index]
        levels = one[list(NAMES)].to_numpy()
        found = granulated_kendall(
            one["m"].to_numpy(), one["gen.gap"].to_numpy(), levels, ones(levels)
        )
        expected, detail = peer(one, "m", "gen.gap", NAMES)
        assert found[0][0] == pytest.approx(expected)
        assert found[1][0] == pytest.approx(detail["granulated_kendall"].to_numpy())

    def test_information(self, frame: object) -> None:
        from mbe_eval import jiang_normalized_cmi

        one = frame  # type: ignore[assignment]
        found = normalised_information(
            one["m"].to_numpy(), one["gen.gap"].to_numpy(), one[list(NAMES)].to_numpy(), NAMES
        )
        expected, detail = jiang_normalized_cmi(one, "m", "gen.gap", NAMES)
        assert found.value == pytest.approx(expected)
        assert found.unconditional == pytest.approx(detail["normalized_cmi"][0])
        least = detail.loc[detail["normalized_cmi"].idxmin(), "conditioning"]
        assert ",".join(found.given) == least

    def test_sign_error(self, frame: object) -> None:
        from mbe_eval import robust_sign_error_environments, robust_sign_error_summary

        one = frame  # type: ignore[assignment]
        levels = one[list(NAMES)].to_numpy()
        found = sign_errors(
            one["m"].to_numpy(),
            one["gen.gap"].to_numpy(),
            levels,
            dict(zip(NAMES, axes(levels), strict=True)),
            samples=10000,
            least_pairs=6,
        )
        environments = robust_sign_error_environments(
            one, ["m"], NAMES, minimum_effective_sample_size=6
        )
        summary = robust_sign_error_summary(environments, ["m"])
        for row in summary.to_dict("records"):
            mine = found[None if row["hyperparameter"] == "all" else row["hyperparameter"]]
            assert mine.environments == row["environments"]
            assert mine.mean == pytest.approx(row["mean_sign_error"])
            assert mine.percentile_90 == pytest.approx(row["p90_sign_error"])
            assert mine.max == pytest.approx(row["max_sign_error"])


def test_held_columns_only_hold_fixed() -> None:
    measure, gap, levels = grid(3, noise=2)
    step = np.random.default_rng(2).integers(0, 2, len(gap))
    both = np.column_stack([levels, step])
    whole, parts = granulated_kendall(measure, gap, both, ones(both), held=1)
    assert parts[0] == pytest.approx(literal_psi(measure, gap, both)[:3])
    assert whole[0] == pytest.approx(np.mean(parts[0]))
    pairs = dict(zip(NAMES, axes(both)[:3], strict=True))
    found = sign_errors(measure, gap, both, pairs, samples=None, least_pairs=1)[None]
    errors = defaultdict(list)
    for i, j in itertools.combinations(range(len(gap)), 2):
        if step[i] == step[j] and np.count_nonzero(levels[i] != levels[j]) == 1:
            error = (1 - np.sign(measure[i] - measure[j]) * np.sign(gap[i] - gap[j])) / 2
            errors[frozenset([tuple(levels[i]), tuple(levels[j])])].append(error)
    assert found.environments == 2 * len(errors)
    assert found.mean == pytest.approx(np.mean([np.mean(one) for one in errors.values()]))
