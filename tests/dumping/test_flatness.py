"""Flatness as a dump measures it: known answers, what has none, the same every time, once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.datasets import load_digits
from support.networks import Builder, saved
from support.notes import Notes

import cnatool
from cnatool.dumping.flatness import EVALUATIONS, Interval, largest_scale
from cnatool.errors import UsageError
from cnatool.records.weights import FlatnessRecord, NoiseRecord
from cnatool.scoring.baselines import compute_flatness_baselines

DIGITS, CLASSES = (values[:600] for values in load_digits(return_X_y=True))
DIGITS = (DIGITS / 16).astype(np.float32)


def features(scale: float = 1.0, *, hidden: int = 60) -> onnx.ModelProto:
    """Random features of digits and their least-squares readout: right on nearly all of them.

    The first layer's weights times ``scale``, the second one's divided by it.
    """
    rng = np.random.default_rng(0)
    w, shift = rng.normal(0, 0.3, (hidden, 64)).astype("f4"), rng.normal(size=hidden).astype("f4")
    known = np.maximum(DIGITS @ w.T + shift, 0)
    readout = np.linalg.lstsq(known, np.eye(10)[CLASSES], rcond=None)[0].T.astype("f4")
    b = Builder()
    names = [
        "x",
        b.constant("w", w * np.float32(scale)),
        b.constant("b", shift * np.float32(scale)),
    ]
    b.node("Relu", [b.node("Gemm", names, "h", transB=1)], "r")
    b.node("Gemm", ["r", b.constant("v", readout / np.float32(scale))], "logits", transB=1)
    return b.model({"x": ("n", 64)}, {"logits": ("n", 10)})


def linear(weights: np.ndarray) -> onnx.ModelProto:
    b = Builder()
    b.node("Gemm", ["x", b.constant("w", weights.astype("f4"))], "y", transB=1)
    return b.model({"x": ("n", weights.shape[1])}, {"y": ("n", len(weights))})


def measured(
    folder: Path,
    model: onnx.ModelProto,
    x: np.ndarray = DIGITS,
    y: np.ndarray | None = CLASSES,
    store: str = "s.zarr",
    settings: cnatool.Flatness | bool = True,
    **options: Any,
) -> FlatnessRecord:
    saved(model, folder / "net.onnx")
    labels = {} if y is None else {"y": y}
    np.savez(folder / "train.npz", x=x, **labels)
    opened = cnatool.dump(
        folder / "net.onnx",
        splits={"train": folder / "train.npz"},
        store=folder / store,
        flatness=settings,
        overwrite=True,
        **options,
    )
    assert cnatool.verify(folder / store).faults == ()
    found = opened.record.flatness
    assert found is not None
    return found


def sigmas(found: FlatnessRecord) -> tuple[float, float]:
    assert found.plain is not None
    assert found.magnitude is not None
    assert found.plain.sigma is not None
    assert found.magnitude.sigma is not None
    return found.plain.sigma, found.magnitude.sigma


def test_a_linear_model_has_the_noise_that_follows_from_its_margins(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(size=(2, 24))
    x = rng.normal(size=(250, 24)).astype("f4")
    margins = x @ (w[1] - w[0])
    y = (margins + rng.normal(0, 1, 250) > 0).astype(int)
    found = measured(tmp_path, linear(w), x, y, settings=cnatool.Flatness(draws=150))
    signed = np.where(y == 1, margins, -margins)
    assert found.accuracy == (signed > 0).mean()

    def expected(spread: np.ndarray) -> float:
        """Mean chance of being right, the difference of scores having this deviation."""
        return float(norm.cdf(signed / spread).mean()) - float((signed > 0).mean()) + 0.1

    def plain(sigma: float) -> float:
        return expected(sigma * math.sqrt(2) * np.linalg.norm(x, axis=1))

    def relative(sigma: float) -> float:
        variances = sigma**2 * (w**2).sum(axis=0) + 2 * 1e-6
        return expected(np.sqrt(x.astype(float) ** 2 @ variances))

    # The draws know the mean accuracy to some 0.006, and σ to 6 percent.
    assert sigmas(found) == pytest.approx(
        (brentq(plain, 1e-3, 10), brentq(relative, 1e-3, 10)), rel=0.08
    )


def test_what_is_found_is_the_edge(tmp_path: Path) -> None:
    model = features()
    found = measured(tmp_path, model, settings=cnatool.Flatness(300, 6, 0.15, 9))
    w, b, v = (onnx.numpy_helper.to_array(t) for t in model.graph.initializer)
    x, y = DIGITS[:300], CLASSES[:300]

    def accuracy(sigma: float, epsilon: float | None) -> float:
        hits = []
        for draw in range(6):
            rng = np.random.default_rng([9, draw])
            noisy = []
            for one in (w, v):
                z = rng.standard_normal(one.shape, np.float32)
                scale = sigma if epsilon is None else np.sqrt((sigma * one) ** 2 + epsilon**2)
                noisy.append(one + scale * z)
            scores = np.maximum(x @ noisy[0].T + b, 0) @ noisy[1].T
            hits.append((scores.argmax(axis=1) == y).mean())
        return float(np.mean(hits))

    assert found.samples == 300
    assert found.accuracy == pytest.approx(accuracy(0, None))
    for kind, epsilon in ((found.plain, None), (found.magnitude, 1e-3)):
        assert kind is not None
        assert kind.sigma is not None
        assert kind.above is not None
        assert 1 < kind.above / kind.sigma < 1.005
        assert kind.accuracy == pytest.approx(accuracy(kind.sigma, epsilon), abs=1e-3)
        assert kind.accuracy >= found.accuracy - 0.15
        assert accuracy(kind.above, epsilon) < found.accuracy - 0.15 + 1e-3
    weights = np.concatenate([w.reshape(-1), v.reshape(-1)]).astype(float)
    assert found.weights == len(weights)
    assert found.square_sum == pytest.approx((weights**2).sum())
    sigma = sigmas(found)[1]
    assert found.log_sum == pytest.approx(np.log(1e-6 + (sigma * weights) ** 2).sum())
    assert found.distance_square_sum is None
    assert found.distance_log_sum is None


def test_relative_noise_knows_no_scale_of_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnatool.dumping.flatness._EPSILON", 1e-30)
    plain, relative = sigmas(measured(tmp_path, features()))
    for factor in (8, 1 / 32):
        other, same = sigmas(measured(tmp_path, features(factor)))
        assert same == relative
        assert abs(math.log(other / plain)) > 0.3


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    first = measured(tmp_path, features())
    assert msgspec.json.encode(measured(tmp_path, features())) == msgspec.json.encode(first)
    # Samples in other batches are rounded otherwise at most.
    other = measured(tmp_path, features(), batch_size=77, threads=1)
    assert sigmas(other) == pytest.approx(sigmas(first), rel=0.01)
    assert measured(tmp_path, features(), settings=cnatool.Flatness(seed=1)) != first


def test_samples_that_are_not_kept_are_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measured(tmp_path, features())
    monkeypatch.setattr("cnatool.dumping.flatness._HELD_BYTES", 1000)
    assert measured(tmp_path, features()) == first


def test_bound_batches_are_filled_up_with_what_does_not_count(tmp_path: Path) -> None:
    free = features()
    bound = onnx.ModelProto.FromString(free.SerializeToString())
    bound.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 7
    bound.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 7
    settings = cnatool.Flatness(samples=100, draws=3)
    first = measured(tmp_path, free, settings=settings)
    other = measured(tmp_path, bound, settings=settings)
    assert other.accuracy == first.accuracy
    assert sigmas(other) == pytest.approx(sigmas(first), rel=0.01)


def test_one_unit_and_probabilities(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    w, x = rng.normal(size=(1, 12)), rng.normal(size=(300, 12)).astype("f4")
    y = (x @ w[0] > 0).astype(int)
    model = linear(w)
    found = sigmas(measured(tmp_path, model, x, y))
    model.graph.node.append(helper.make_node("Sigmoid", ["y"], ["p"]))
    model.graph.output[0].name = "p"
    assert sigmas(measured(tmp_path, model, x, y)) == found


def reasons(found: FlatnessRecord) -> tuple[str | None, str | None]:
    assert found.plain is not None
    assert found.magnitude is not None
    assert found.plain.sigma is None
    assert found.magnitude.sigma is None
    return found.plain.reason, found.magnitude.reason


def test_what_cannot_fall_so_far(tmp_path: Path) -> None:
    wrong = (CLASSES + 1) % 10
    found = measured(tmp_path, features(), y=wrong)
    assert found.accuracy is not None
    assert found.accuracy < 0.1
    text = f"the accuracy without noise is {found.accuracy:g}, and cannot fall by 0.1"
    assert reasons(found) == (text, text)
    scored = compute_flatness_baselines(found, 100, "")
    assert {one.reason for one in scored.values()} == {text}


def test_what_never_falls(tmp_path: Path) -> None:
    # All scores are zero whatever the weights, so that class 0 is predicted.
    x, y = np.zeros((50, 6), "f4"), np.zeros(50, int)
    found = measured(tmp_path, linear(np.ones((3, 6))), x, y)
    assert reasons(found) == (
        "accuracy falls by no more than 0.1 however large the plain noise",
        "accuracy falls by no more than 0.1 however large the magnitude-aware noise",
    )


def test_when_epsilon_alone_is_too_much(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    w, x = 1e-5 * rng.normal(size=(2, 12)), rng.normal(size=(300, 12)).astype("f4")
    found = measured(tmp_path, linear(w), x, (x @ (w[1] - w[0]) > 0).astype(int))
    assert found.plain is not None
    assert found.plain.sigma is not None
    assert found.magnitude is not None
    assert found.magnitude.reason == "ε = 0.001 alone lowers accuracy by more than 0.1"


def shuffling() -> onnx.ModelProto:
    model = features()
    model.graph.node[-1].output[0] = "first"
    model.graph.node.append(helper.make_node("RandomNormalLike", ["first"], ["noise"]))
    model.graph.node.append(helper.make_node("Add", ["first", "noise"], ["logits"]))
    return model


def regressing() -> onnx.ModelProto:
    model = features()
    model.graph.node[-1].output[0] = "first"
    shape = onnx.numpy_helper.from_array(np.array([-1, 5, 2]), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("Reshape", ["first", "shape"], ["logits"]))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    return model


@pytest.mark.parametrize(
    ("model", "y", "text"),
    [
        (features(), None, "the samples of split train have no labels"),
        (features(), CLASSES + 5, "has the label 10, and the output scores 10 classes"),
        (shuffling(), CLASSES, "the model draws random numbers"),
        (regressing(), CLASSES, "not one score per class"),
        (linear(np.zeros((10, 64))), CLASSES, "the weights are all 0"),
        (linear(np.full((10, 64), np.nan)), CLASSES, "the weights are not finite"),
    ],
)
def test_what_cannot_be_measured_does_not_stop_the_dump(
    tmp_path: Path, model: onnx.ModelProto, y: np.ndarray | None, text: str
) -> None:
    notes = Notes()
    found = measured(tmp_path, model, y=y, observer=notes)
    assert found.plain is None
    assert found.reason is not None
    assert text in found.reason
    assert f"flatness is not measured: {found.reason}" in notes.texts
    scored = compute_flatness_baselines(found, 100, "")
    assert {one.reason for one in scored.values()} == {found.reason}


def test_scores_say_what_they_lack() -> None:
    scored = compute_flatness_baselines(None, 100, "")
    text = "the store holds no flatness: dump with `flatness=True`"
    assert {one.reason for one in scored.values()} == {text}
    found = FlatnessRecord(
        cnatool.Flatness(),
        weights=5,
        square_sum=2.0,
        plain=NoiseRecord(0.5, 0.51, 0.9),
        magnitude=NoiseRecord(reason="none"),
        epsilon=1e-3,
    )
    scored = compute_flatness_baselines(found, None, "no split called train")
    initial = "the initial weights are not known: dump with `initial_model=FILE`"
    assert {name: (one.value, one.reason) for name, one in scored.items()} == {
        "pac_bayes_flatness": (4.0, None),
        "pac_bayes_init": (None, initial),
        "pac_bayes_orig": (None, "no split called train"),
        "pac_bayes_mag_flatness": (None, "none"),
        "pac_bayes_mag_init": (None, "none"),
        "pac_bayes_mag_orig": (None, "none"),
        "pac_bayes_mag_from_zero": (None, "none"),
    }


def test_initial_weights_in_another_form_are_not_taken_for_the_same(tmp_path: Path) -> None:
    w = np.random.default_rng(0).normal(size=(6, 6))
    x = np.random.default_rng(1).normal(size=(40, 6)).astype("f4")
    y = (x @ w.T).argmax(axis=1)
    initial = tmp_path / "initial.onnx"
    moved = w + 0.5
    saved(linear(moved), initial)
    found = measured(tmp_path, linear(w), x, y, initial_model=initial)
    assert found.distance_square_sum == pytest.approx(36 * 0.25)
    b = Builder()
    b.node("Gemm", ["x", b.constant("w", moved.T.astype("f4"))], "y")
    saved(b.model({"x": ("n", 6)}, {"y": ("n", 6)}), initial)
    found = measured(tmp_path, linear(w), x, y, initial_model=initial)
    assert found.reason is not None
    assert "keeps the weights of layer 1 in another form than" in found.reason


def test_the_only_split_is_taken_and_of_several_that_of_training(tmp_path: Path) -> None:
    saved(features(), tmp_path / "net.onnx")
    for name, part in (
        ("train", slice(0, 300)),
        ("val", slice(300, 400)),
        ("test", slice(400, None)),
    ):
        np.savez(tmp_path / f"{name}.npz", x=DIGITS[part], y=CLASSES[part])

    def split(*names: str) -> FlatnessRecord:
        splits = {name: tmp_path / f"{name}.npz" for name in names}
        store = cnatool.dump(
            tmp_path / "net.onnx",
            splits=splits,
            store=tmp_path / "s.zarr",
            flatness=cnatool.Flatness(150, 2),
            overwrite=True,
        )
        found = store.record.flatness
        assert found is not None
        return found

    found = split("val", "train")
    assert (found.split, found.samples) == ("train", 150)
    found = split("val")
    assert (found.split, found.samples) == ("val", 100)
    assert split("val", "test").reason == "no split called train"


def test_samples_sorted_by_class_are_said(tmp_path: Path) -> None:
    order = np.argsort(CLASSES, kind="stable")
    notes = Notes()
    settings = cnatool.Flatness(150, 2)
    measured(
        tmp_path, features(), DIGITS[order], CLASSES[order], "s.zarr", settings, observer=notes
    )
    assert any("sorted by class and contain only 3 of 10 classes" in text for text in notes.texts)
    assert "use all samples with `flatness.samples=600`" in "\n".join(notes.texts)


def test_it_says_what_it_takes_and_how_far_it_is(tmp_path: Path) -> None:
    notes = Notes()
    measured(tmp_path, features(), settings=cnatool.Flatness(500, 4), observer=notes)
    assert (
        "flatness: 2 kinds of noise × 14 scales × 4 draws × 500 samples, at most 56,000 through "
        "the model" in notes.texts
    )
    done = [done for stage, done, _ in notes.done if stage == "flatness"]
    assert done == sorted(set(done))
    assert done[-1] == 2 * 14 * 4 * 500


def test_interrupted_it_leaves_nothing_and_resumed_it_is_not_measured_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measured(tmp_path, features(), store="whole.zarr")
    given = {"splits": {"train": tmp_path / "train.npz"}, "store": tmp_path / "s.zarr"}
    net = tmp_path / "net.onnx"
    with pytest.raises(KeyboardInterrupt):
        cnatool.dump(net, flatness=True, observer=Notes("flatness", 10_000), **given)
    assert not (tmp_path / "s.zarr").exists()
    monkeypatch.setattr("cnatool.store.chunks._MOST_ROWS", 64)
    monkeypatch.setattr("cnatool.backend.schedule._LARGEST_BLOCK", 48)
    with pytest.raises(KeyboardInterrupt):
        cnatool.dump(net, flatness=True, batch_size=16, observer=Notes("train", 300), **given)
    monkeypatch.setattr("cnatool.dumping.model_record.measure_flatness", None)
    for other in (False, cnatool.Flatness(draws=3)):
        with pytest.raises(UsageError, match="flatness .* in the store and .* now"):
            cnatool.dump(net, flatness=other, resume=True, **given)
    notes = Notes()
    store = cnatool.dump(net, flatness=True, resume=True, observer=notes, **given)
    assert not any("flatness" in text for text in notes.texts)
    found = store.record.flatness
    assert found is not None
    assert sigmas(found) == sigmas(whole)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (cnatool.Flatness(samples=0), "`flatness.samples=0`: at least 1."),
        (cnatool.Flatness(draws=-1), "`flatness.draws=-1`: at least 1."),
        (cnatool.Flatness(target=1.0), "`flatness.target=1`: between 0 and 1."),
        (cnatool.Flatness(seed=-1), "`seed=-1`: 0 or more."),
    ],
)
def test_settings_that_cannot_be_meant(
    tmp_path: Path, settings: cnatool.Flatness, text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        measured(tmp_path, features(), settings=settings)


# --- the search for σ ---------------------------------------------------------------------------


@given(
    exponent=st.floats(-19.9, 7.9),
    unit=st.floats(1e-6, 1e6),
)
def test_the_edge_is_found_within_half_a_percent(exponent: float, unit: float) -> None:
    edge, tried = unit * 2**exponent, []

    def tolerated(scale: float) -> bool:
        tried.append(scale)
        return scale <= edge

    low, high = largest_scale(tolerated, unit)
    assert low is not None
    assert high is not None
    assert low <= edge < high
    assert high / low < 1.005
    assert len(tried) == EVALUATIONS
    assert {low, high} <= set(tried)


def test_all_is_tolerated() -> None:
    assert largest_scale(lambda _: True, 3.0) == Interval(768.0, None)


def test_nothing_is_tolerated() -> None:
    low, high = largest_scale(lambda _: False, 1.0)
    assert low is None
    assert high == pytest.approx(2**-20)


def test_a_gap_is_left_at_one_of_its_edges() -> None:
    low, high = largest_scale(lambda s: s < 0.01 or 0.1 < s < 0.2, 1.0)
    assert low is not None
    assert any(low <= edge <= (high or 0) for edge in (0.01, 0.1, 0.2))
