from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from cnatool.errors import DataError, MetricError
from cnatool.metrics import margin as margin_module
from cnatool.metrics.convention import ConventionFields
from cnatool.metrics.estimate import Estimate
from cnatool.metrics.margin import (
    MarginColumns,
    detect_output_kind,
    margin_rows,
    probabilities,
)


def margin_estimate(rows: Any, *, form: Any, kind: Any, **settings: Any) -> Estimate:
    named = {f"margin_{name}": value for name, value in settings.items()}
    return margin_module.margin_estimate(rows, kind, ConventionFields(margin=form, **named))


SETTINGS: dict[str, Any] = {
    "kind": "logits",
    "fraction": 0.1,
    "seed": 0,
    "percentile": 5.0,
    "batch": 128,
}


def gamma_of(outputs: Any, labels: Any, *, form: Any, kind: Any, **settings: Any) -> Estimate:
    """γ of a split in one go."""
    rows = margin_rows(outputs, labels, form=form, kind=kind)
    return margin_estimate(rows, form=form, kind=kind, **settings)


def margins(logits: Any, labels: Any) -> np.ndarray[Any, Any]:
    return margin_rows(logits, labels, form="min", kind="logits")[:, 0]


def by_loops(scores: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> list[float]:
    return [
        float(s[y]) - max(float(v) for j, v in enumerate(s) if j != y)
        for s, y in zip(scores, labels, strict=True)
    ]


def by_overwriting(
    logits: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], batch: int, percentile: float
) -> float:
    """Follow the released code step by step."""
    appended: list[float] = []
    for start in range(0, len(logits), batch):
        s = logits[start : start + batch].astype(np.float64)
        y = labels[start : start + batch]
        rows = np.arange(len(s))
        for k in rows:
            s[k, y[k]] = s[k].min()
            appended.extend(s[rows, y] - s.max(axis=1))
    return float(np.percentile(appended, percentile))


@pytest.fixture
def case() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(500, 10)).astype(np.float32) * 4
    labels = rng.integers(0, 10, 500)
    logits[np.arange(500), labels] += 3
    return logits, labels


def test_output_kind_is_read_from_the_values() -> None:
    p = scipy.special.softmax(np.random.default_rng(2).normal(size=(20, 5)), axis=1)
    assert detect_output_kind(p) == "probabilities"
    assert detect_output_kind(p.astype(np.float16)) == "probabilities"
    assert detect_output_kind(p * 1.0005) == "probabilities"
    assert detect_output_kind(p * 1.002) == "logits"
    assert detect_output_kind(np.log(p)) == "logits"
    assert detect_output_kind(np.array([[1.5, -0.5]])) == "logits"
    assert detect_output_kind(np.array([[np.nan, 0.5]])) == "logits"
    q = p.copy()
    q[19] = 0.5
    assert detect_output_kind(q) == "logits"


def test_probabilities_are_a_stable_softmax() -> None:
    logits = np.random.default_rng(3).normal(size=(30, 6)).astype(np.float32) * 500
    got = probabilities(logits, "logits")
    np.testing.assert_allclose(got, scipy.special.softmax(logits.astype(float), axis=1), rtol=1e-12)
    assert got.dtype == np.float64
    assert (probabilities(logits, "probabilities") == logits).all()


def test_margins(case: Any) -> None:
    logits, labels = case
    np.testing.assert_allclose(margins(logits, labels), by_loops(logits, labels), rtol=1e-14)
    assert margins(np.array([[2, 5, 1]]), [0]) == [-3.0]
    assert margins(np.array([[2, 5, 1]]), [1]) == [3.0]


def test_paper_is_the_greatest_of_a_seeded_subset(case: Any) -> None:
    logits, labels = case
    gamma = np.array(by_loops(scipy.special.softmax(logits.astype(float), axis=1), labels))
    values = set()
    for seed in range(5):
        drawn = np.random.default_rng(seed).choice(500, 5, replace=False)
        got = gamma_of(logits, labels, form="paper", **SETTINGS | {"seed": seed, "fraction": 0.01})
        assert got.value == pytest.approx(gamma[drawn].max(), rel=1e-12)
        values.add(got.value)
    assert len(values) > 1
    all_of_it = gamma_of(logits, labels, form="paper", **SETTINGS | {"fraction": 1.0})
    assert all_of_it.value == pytest.approx(gamma.max(), rel=1e-12)
    assert gamma_of(
        logits[:2], labels[:2], form="paper", **SETTINGS | {"fraction": 1e-6}
    ).value == pytest.approx(gamma[np.random.default_rng(0).choice(2, 1)[0]], rel=1e-12)


def test_paper_of_probabilities_takes_them_as_they_are(case: Any) -> None:
    logits, labels = case
    p = scipy.special.softmax(logits.astype(float), axis=1)
    from_logits = gamma_of(logits, labels, form="paper", **SETTINGS)
    got = gamma_of(p, labels, form="paper", **SETTINGS | {"kind": "probabilities"})
    assert got.value == pytest.approx(from_logits.value, rel=1e-12)


@pytest.mark.parametrize("percentile", [0, 5, 10, 37.5, 100])
def test_percentile(case: Any, percentile: float) -> None:
    logits, labels = case
    got = gamma_of(logits, labels, form="percentile", **SETTINGS | {"percentile": percentile})
    expected = np.percentile(by_loops(logits, labels), percentile)
    assert got.value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("form", ["min", "mean", "median"])
def test_other_summaries(case: Any, form: Any) -> None:
    logits, labels = case
    expected = getattr(np, form)(by_loops(logits, labels))
    got = gamma_of(logits, labels, form=form, **SETTINGS)
    assert got.value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 127, 128, 129, 300])
def test_reference_is_what_overwriting_a_batch_gives(case: Any, n: int) -> None:
    logits, labels = case
    got = gamma_of(logits[:n], labels[:n], form="reference", **SETTINGS)
    expected = by_overwriting(logits[:n], labels[:n], 128, 5)
    assert got.value == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert got.value <= 0


@settings(deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 24),
    classes=st.integers(2, 4),
    batch=st.integers(1, 9),
    percentile=st.floats(0, 100),
)
def test_reference_of_any_batch(
    seed: int, n: int, classes: int, batch: int, percentile: float
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.integers(-3, 4, (n, classes)).astype(float)  # with ties
    labels = rng.integers(0, classes, n)
    got = gamma_of(
        logits,
        labels,
        form="reference",
        **SETTINGS | {"batch": batch, "percentile": percentile},
    )
    expected = by_overwriting(logits, labels, batch, percentile)
    assert got.value == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("form", ["paper", "percentile", "reference", "min", "mean", "median"])
def test_blocks_of_rows_give_the_same_number(case: Any, form: Any) -> None:
    logits, labels = case
    rows = np.concatenate(
        [
            margin_rows(logits[i : i + 77], labels[i : i + 77], form=form, kind="logits")
            for i in range(0, 500, 77)
        ]
    )
    got = margin_estimate(rows, form=form, **SETTINGS)
    whole = gamma_of(logits, labels, form=form, **SETTINGS)
    assert got.value == pytest.approx(whole.value, rel=1e-13)


@pytest.mark.parametrize("form", ["percentile", "reference", "min", "mean", "median"])
def test_probabilities_have_no_logits(form: Any) -> None:
    got = gamma_of(
        np.full((3, 2), 0.5), [0, 1, 0], form=form, **SETTINGS | {"kind": "probabilities"}
    )
    assert got.value is None
    assert got.reason == (f"the margin '{form}' needs logits, and the model outputs probabilities")


@pytest.mark.parametrize("form", ["paper", "percentile", "reference", "min", "mean", "median"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_not_finite(case: Any, form: Any, bad: float) -> None:
    logits, labels = case
    logits[3, 4] = logits[30, 5] = bad
    got = gamma_of(logits, labels, form=form, **SETTINGS)
    assert got.value is None
    assert got.reason == "the outputs are not finite for 2 of 500 samples"


def test_one_class_and_no_samples() -> None:
    with pytest.raises(MetricError, match=r"^A margin needs at least two classes"):
        margins(np.zeros((3, 1)), [0, 0, 0])
    got = gamma_of(np.zeros((0, 3)), np.zeros(0, int), form="min", **SETTINGS)
    assert got.reason == "a margin needs at least one sample, and there is none"


def test_a_label_that_is_no_class() -> None:
    with pytest.raises(
        DataError, match=r"^Sample row 1 has the label 3, and the output scores 3 cl"
    ):
        margins(np.zeros((2, 3)), [0, 3])
    with pytest.raises(DataError, match=r"^Sample row 11 has the label -1"):
        margin_rows(np.zeros((2, 3)), [0, -1], form="min", kind="logits", first_row=10)


def test_outputs_that_are_no_scores() -> None:
    with pytest.raises(MetricError, match=r"^The outputs have shape \(3, 1, 2\)"):
        gamma_of(np.zeros((3, 1, 2)), [0, 0, 0], form="paper", **SETTINGS)


@pytest.mark.parametrize("form", ["paper", "percentile", "reference", "min", "mean", "median"])
@pytest.mark.parametrize("least", [0.0, -np.inf])
def test_margin_of_the_columns_that_a_form_needs(form: Any, least: float) -> None:
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(size=(90, 4)), rng.integers(0, 3, 90)
    logits[70, 3] += least  # no true class: the margin of this row is finite all the same
    rows = margin_rows(logits, labels, form=form, kind="logits")
    gathered = MarginColumns(90, form)
    for start in range(0, 90, 25):
        gathered.add(start, rows[start : start + 25])
    settings = {"form": form, "kind": "logits", "fraction": 0.3, "seed": 0}
    settings |= {"percentile": 10.0, "batch": 16}
    assert margin_estimate(gathered.rows(), **settings) == margin_estimate(rows, **settings)
    held = 2 if form == "reference" or (least and form != "paper") else 1
    assert gathered.rows().shape == (90, held)
    assert gathered.rows()[:, 0].tobytes() == np.ascontiguousarray(rows[:, 0]).tobytes()


@pytest.mark.parametrize("form", ["paper", "percentile", "mean", "median"])
def test_resampled_margins_vary_as_those_of_rows_drawn(form: Any) -> None:
    rows = np.random.default_rng(0).normal(size=(900, 1))
    fields = ConventionFields(margin=form, margin_fraction=0.2)
    got = margin_module.resample_margins(rows, "logits", fields, 400)
    rng = np.random.default_rng(1)
    expected = [
        margin_module.margin_estimate(rows[rng.integers(0, 900, 900)], "logits", fields).value
        for _ in range(400)
    ]
    error = np.std(expected) / 20
    assert got.mean() == pytest.approx(np.mean(expected), abs=6 * error)
    assert got.std() == pytest.approx(np.std(expected), rel=0.25)
    again = margin_module.resample_margins(rows, "logits", fields, 400)
    assert again.tobytes() == got.tobytes()
