"""Studies of collections whose answer is known."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest
import scipy.stats

import cnatool
from cnatool.errors import DataError, UsageError
from cnatool.schemas import schema_text


def collection(seeds: int = 3, seed: int = 0) -> pl.DataFrame:
    """Make networks of a 3×4 grid whose gap grows with lr; measures that are known of it."""
    rng = np.random.default_rng(seed)
    rows = list(itertools.product(range(3), range(4), range(seeds)))
    lr = np.array([row[0] for row in rows], float)
    gap = 0.1 * lr + 0.02 * rng.normal(size=len(rows))
    accuracy = 0.95 - gap
    return pl.DataFrame(
        {
            "id": [f"net-{a}-{b}-{c}" for a, b, c in rows],
            "tag.lr": [f"{a}" for a, _, _ in rows],
            "tag.width": [f"w{b}" for _, b, _ in rows],
            "tag.seed": [f"{c}" for _, _, c in rows],
            "test.accuracy": accuracy,
            "gap": gap,
            "test.samples": [10000] * len(rows),
            "same": gap,
            "opposite": -gap,
            "noise": rng.normal(size=len(rows)),
            "confounded": lr + 0.2 * rng.normal(size=len(rows)),
            "constant": [1.5] * len(rows),
            "rare": [1.0, 2.0] + [None] * (len(rows) - 2),
            "train.accuracy": 0.95 + 0.001 * rng.normal(size=len(rows)),
        }
    )


@pytest.fixture(scope="module")
def studied() -> cnatool.Study:
    return cnatool.study(
        frame=collection(), by="lr", compare=[("same", "noise"), ("same", "opposite")],
        resamples=400, least_pairs=1,
    )  # fmt: skip


def found(study: cnatool.Study, measure: str, target: str = "gap", group: str | None = None):
    return next(
        one
        for one in study.result.correlations
        if (one.measure, one.target, one.group) == (measure, target, group)
    )


def beyond(study: cnatool.Study, measure: str, target: str = "gap"):
    return next(
        one
        for one in study.result.hyperparameters
        if (one.measure, one.target) == (measure, target)
    )


def test_measure_that_is_the_gap(studied: cnatool.Study) -> None:
    for measure, sign in (("same", 1), ("opposite", -1)):
        one = found(studied, measure)
        assert (one.networks, one.clusters, one.kind) == (36, 36, "measure")
        for estimate in (one.pearson, one.spearman, one.kendall_a, one.kendall_b):
            assert estimate.value == pytest.approx(sign)
            assert estimate.interval == pytest.approx((sign, sign))
        assert found(studied, measure, "test.accuracy").pearson.value == pytest.approx(-sign)
        assert one.quadratic.coefficients == pytest.approx((0, sign, 0), abs=1e-9)
        more = beyond(studied, measure)
        assert more.psi.value == pytest.approx(sign)
        assert more.information.value == pytest.approx(1)
        assert more.sign_error.max == pytest.approx((1 - sign) / 2)
    assert studied.result.settings.hyperparameters == ("lr", "width")


def test_noise_and_a_confounded_measure(studied: cnatool.Study) -> None:
    noise = found(studied, "noise")
    low, high = noise.pearson.interval
    assert low < 0 < high
    assert beyond(studied, "noise").information.value < 0.1
    confounded = found(studied, "confounded")
    assert confounded.pearson.interval[0] > 0.8
    # Within a learning rate it says nothing.
    for group in ("0", "1", "2"):
        one = found(studied, "confounded", group=group)
        assert one.networks == 12
        assert abs(one.pearson.value) < 0.6
    more = beyond(studied, "confounded")
    assert more.psi_axes["lr"].value > 0.9
    assert abs(more.psi_axes["width"].value) < 0.4
    assert more.information.unconditional > 0.3
    assert more.information.value < 0.1
    assert "lr" in more.information.given


def test_every_coefficient_is_that_of_scipy(studied: cnatool.Study) -> None:
    frame = studied.networks
    for measure in ("noise", "confounded"):
        one, pair = found(studied, measure), (frame[measure].to_numpy(), frame["gap"].to_numpy())
        assert one.pearson.value == pytest.approx(scipy.stats.pearsonr(*pair).statistic)
        assert one.spearman.value == pytest.approx(scipy.stats.spearmanr(*pair).statistic)
        assert one.kendall_b.value == pytest.approx(scipy.stats.kendalltau(*pair).statistic)


def test_what_cannot_be_told_has_a_reason(studied: cnatool.Study) -> None:
    constant = found(studied, "constant")
    assert constant.pearson.value is None
    assert constant.pearson.reason == "constant is the same for all 36 networks"
    assert constant.kendall_a.interval is None
    rare = found(studied, "rare")
    assert rare.spearman.reason == "at least 3 networks are needed, and there are 2"
    assert beyond(studied, "rare").information.reason == rare.spearman.reason
    assert beyond(studied, "constant").sign_error.reason == constant.pearson.reason


def test_trivial_baselines_are_beside(studied: cnatool.Study) -> None:
    assert found(studied, "train.accuracy").kind == "trivial"
    named = {one.measure for one in studied.result.correlations}
    assert "test.accuracy" not in named
    default = cnatool.study(frame=collection(), resamples=0).result
    # Those without a correlation, as all test splits are of one size, are not compared.
    assert {(one.first, one.second) for one in default.differences} == {
        (measure, "train.accuracy") for measure in ("same", "opposite", "noise", "confounded")
    }
    assert default.correlations[0].pearson.interval_reason == "no resamples are drawn"


def test_differences(studied: cnatool.Study) -> None:
    by = {
        (one.first, one.second, one.target, one.coefficient): one
        for one in studied.result.differences
    }
    assert len(by) == 2 * 2 * 4
    one = by["same", "noise", "gap", "pearson"]
    noise = found(studied, "noise").pearson.value
    assert one.difference.value == pytest.approx(1 - noise)
    assert one.magnitude.value == pytest.approx(1 - abs(noise))
    assert one.magnitude.interval[0] > 0.3
    equal = by["same", "opposite", "gap", "spearman"]
    assert equal.difference.value == pytest.approx(2)
    assert equal.magnitude.value == pytest.approx(0)
    assert equal.magnitude.interval == pytest.approx((0, 0), abs=1e-12)


def test_a_difference_over_the_same_networks_and_resamples() -> None:
    frame = collection().with_columns(
        pl.when(pl.int_range(pl.len()) > 5).then("noise").alias("later")
    )
    result = cnatool.study(frame=frame, compare=[("confounded", "later")], resamples=50).result
    one = next(d for d in result.differences if (d.target, d.coefficient) == ("gap", "pearson"))
    rows = frame[6:]
    gap = rows["gap"].to_numpy()
    r1, r2 = (
        scipy.stats.pearsonr(rows[name].to_numpy(), gap).statistic
        for name in ("confounded", "noise")
    )
    assert (one.networks, one.difference.value) == (30, pytest.approx(r1 - r2))


def test_what_the_data_alone_tell_is_a_baseline() -> None:
    frame = collection()
    # A dataset for each learning rate; α and the number of samples are those of the dataset.
    task = frame["tag.lr"].cast(pl.Float64)
    of_data = {
        "train.alpha.mean": 2 + task,
        "test.alpha.std": 0.1 * task**2,
        "train.samples": 1000 * (1 + task),
    }
    frame = frame.with_columns(**of_data)
    result = cnatool.study(frame=frame, by="lr", resamples=0).result
    compared = {one.second for one in result.differences}
    assert compared == {"train.accuracy", *of_data}
    for name, values in of_data.items():
        whole, *groups = (
            one for one in result.correlations if (one.target, one.measure) == ("gap", name)
        )
        assert whole.kind == "trivial"
        expected = scipy.stats.pearsonr(values.to_numpy(), frame["gap"].to_numpy()).statistic
        assert whole.pearson.value == pytest.approx(expected)
        why = "" if name == "train.samples" else ", as for networks with the same inputs"
        assert [(one.group, one.pearson.reason) for one in groups] == [
            (group, f"{name} is the same for all 12 networks{why}") for group in "012"
        ]
    # Over one dataset there is nothing to compare with.
    one_task = cnatool.study(frame=frame.filter(pl.col("tag.lr") == "1"), resamples=0).result
    assert {one.second for one in one_task.differences} == {"train.accuracy"}


def test_targets_that_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frame = collection().rename({"gap": "gap_accuracy"})
    frame = frame.with_columns(
        gap=rng.normal(size=36), gap_loss=pl.Series(rng.exponential(size=36)), other="noise"
    )
    names = ("gap_accuracy", "gap_loss", "other")
    studied = cnatool.study(
        frame=frame, folder=tmp_path, targets=names, by="lr", compare=[("same", "noise")],
        resamples=60, least_pairs=1,
    )  # fmt: skip
    result = studied.result
    assert result.settings.targets == names
    assert result.settings.compare == (("same", "noise"),)
    # A target is no measure, and neither is another form of the gap.
    assert not {"other", "gap", "gap_loss"} & {one.measure for one in result.correlations}
    for rows in (result.correlations, result.hyperparameters, result.differences):
        assert {one.target for one in rows} == set(names)
    values = frame["noise"].to_numpy()
    for target in names[:2]:
        one = found(studied, "noise", target)
        expected = scipy.stats.pearsonr(values, frame[target].to_numpy()).statistic
        assert one.pearson.value == pytest.approx(expected)
        assert found(studied, "noise", target, "1").networks == 12
    # Bins are by test accuracy all the same.
    assert set(names) < set(result.bins[0].means)
    # Only of accuracies is it known how certain a difference is.
    assert result.settings.weighted == ("gap_accuracy",)
    assert result.settings.test_samples == 10000
    assert "the sign error for gap_loss, other gives all pairs equal weight" in result.notes[-1]
    known = cnatool.study(
        frame=frame.drop("test.samples"), targets=names, resamples=0, least_pairs=1
    )
    assert known.result.notes[-1].startswith("the sign error gives all pairs equal weight")
    for target, same in (("gap_accuracy", False), ("gap_loss", True)):
        errors = [
            next(
                one.sign_error.mean
                for one in each.hyperparameters
                if (one.target, one.measure) == (target, "noise")
            )
            for each in (result, known.result)
        ]
        assert (errors[0] == errors[1]) is same
    # What was written is read again, and drawn.
    again = cnatool.study(frame=tmp_path / "networks.parquet", targets=["gap_loss"], resamples=0)
    assert found(again, "noise", "gap_loss").pearson.value == pytest.approx(
        found(studied, "noise", "gap_loss").pearson.value
    )
    for figure in ("measures", "gap"):
        drawn = str(cnatool.plot(tmp_path, figure, measure=["noise"]).to_dict())
        assert "accuracy(test)" in drawn


def test_a_gap_of_losses_is_not_weighted() -> None:
    frame = collection().with_columns(gap_loss="gap")
    settings = cnatool.study(frame=frame, resamples=0).result.settings
    assert settings.weighted == ("test.accuracy",)
    assert cnatool.study(frame=collection(), resamples=0).result.settings.weighted == (
        "test.accuracy",
        "gap",
    )


def test_the_interval_of_a_difference_of_magnitudes_is_that_of_a_slow_formula() -> None:
    rng = np.random.default_rng(3)
    tasks, size, resamples, seed = 8, 9, 100, 5
    of = np.repeat(np.arange(tasks), size)
    gap, down, up = rng.normal(size=(3, tasks))[:, of] + 0.5 * rng.normal(size=(3, len(of)))
    down, up = down - 1.5 * gap, up + 0.5 * gap
    frame = pl.DataFrame(
        {"id": [f"{i}" for i in range(len(of))], "tag.task": [f"t{i}" for i in of],
         "gap": gap, "down": down, "up": up}
    )  # fmt: skip
    result = cnatool.study(
        frame=frame, cluster="task", compare=[("down", "up")], resamples=resamples, seed=seed
    ).result
    draws = np.random.default_rng(seed).integers(0, tasks, (resamples, tasks))
    differences: dict[str, list[float]] = {}
    for draw in draws:
        rows = np.concatenate([np.flatnonzero(of == task) for task in draw])
        for name, peer in (
            ("pearson", scipy.stats.pearsonr),
            ("kendall_b", scipy.stats.kendalltau),
        ):
            first, second = (peer(each[rows], gap[rows]).statistic for each in (down, up))
            differences.setdefault(f"{name} magnitude", []).append(abs(first) - abs(second))
            differences.setdefault(f"{name} difference", []).append(first - second)
    tail = scipy.stats.norm.cdf(-scipy.stats.t.ppf(0.975, tasks - 1) * np.sqrt(tasks / (tasks - 1)))
    for one in result.differences:
        for form in ("magnitude", "difference"):
            slow = differences.get(f"{one.coefficient} {form}")
            if slow is not None:
                expected = np.quantile(slow, [tail, 1 - tail])
                assert getattr(one, form).interval == pytest.approx(tuple(expected), abs=1e-9)
    assert result.differences[0].difference.value < 0 < result.differences[0].magnitude.value


def test_clusters_make_intervals_wider() -> None:
    rng = np.random.default_rng(0)
    run = np.repeat(np.arange(8), 10)
    shared = rng.normal(size=(8, 2))[run] + 0.2 * rng.normal(size=(80, 2))
    frame = pl.DataFrame(
        {"id": [str(i) for i in range(80)], "tag.run": run, "gap": shared[:, 0], "m": shared[:, 1]}
    )
    alone = cnatool.study(frame=frame, resamples=500).result
    grouped = cnatool.study(frame=frame, resamples=500, cluster="run").result
    assert (alone.clusters, grouped.clusters) == (80, 8)
    widths = [np.diff(result.correlations[0].pearson.interval)[0] for result in (alone, grouped)]
    assert widths[1] > 2 * widths[0]
    assert "`cluster`" in alone.notes[0]
    assert not any("`cluster`" in note for note in grouped.notes)
    assert not any("intervals are based on" in note for note in alone.notes)
    assert "all intervals are based on fewer than 10 clusters (as few as 8):" in grouped.notes[0]
    other = frame.with_columns(pl.col("id") + "x", pl.col("tag.run") + 100)
    half = pl.Series("tag.half", (["a"] * 40 + ["b"] * 40) * 2)
    notes = cnatool.study(
        frame=pl.concat([frame, other]).with_columns(half), cluster="run", by="half", resamples=50
    ).result.notes
    assert "some intervals are based on fewer than 10 clusters (as few as 8):" in notes[0]
    few = cnatool.study(frame=frame[:40], cluster="run").result.correlations[0].pearson
    assert few.value is not None
    assert few.interval_reason == "an interval needs at least 5 clusters, and there are 4"


def test_the_same_study_gives_the_same_bytes(tmp_path: Path) -> None:
    first = cnatool.study(frame=collection(), folder=tmp_path / "a").result.to_json()
    second = cnatool.study(frame=collection(), folder=tmp_path / "b").result.to_json()
    assert first == second
    jsonschema.validate(json.loads(first), json.loads(schema_text("study")))
    assert (tmp_path / "a/study.json").read_text("utf-8") == first
    other = cnatool.study(frame=collection(), seed=1).result
    assert other.to_json() != first
    assert other.correlations[0].pearson.value == json.loads(first)["correlations"][0]["pearson"][
        "value"
    ]  # fmt: skip
    for name in ("networks", "correlations", "hyperparameters", "differences", "bins"):
        frames = [
            pl.read_csv(tmp_path / f"a/{name}.csv", infer_schema_length=None),
            pl.read_parquet(tmp_path / f"a/{name}.parquet"),
        ]
        assert frames[0].shape == frames[1].shape
        assert len(frames[0])
    # What a study wrote is a frame for another.
    for name in ("a/networks.csv", "b/networks.parquet"):
        again = cnatool.study(frame=tmp_path / name).result
        assert again.to_json() == first


def test_bins_are_of_25_networks_by_accuracy() -> None:
    frame = collection(seeds=5)
    bins = cnatool.study(frame=frame, resamples=0).result.bins
    assert [one.networks for one in bins] == [25, 25, 10]
    ordered = frame.sort("test.accuracy", maintain_order=True)
    assert bins[1].accuracy == pytest.approx(ordered["test.accuracy"][25:50].mean())
    assert bins[1].means["noise"] == pytest.approx(ordered["noise"][25:50].mean())
    assert bins[2].means["rare"] == pytest.approx(ordered["rare"][50:].mean()) or (
        bins[2].means["rare"] is None
    )


def test_frames_from_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "nets.csv"
    path.write_text(
        "id,arch,tag.lr,gap,test.accuracy,m,broken\n"
        "1,a,0.1,0.1,0.9,1,\n2,a,0.2,0.2,0.8,2,\n3,b,0.1,0.3,0.7,3,nan\n4,b,0.2,0.4,0.6,5,inf\n",
        "utf-8",
    )
    study = cnatool.study(frame=path, by="arch", resamples=0)
    assert study.networks["id"].to_list() == ["1", "2", "3", "4"]
    assert study.networks["tag.lr"].to_list() == ["0.1", "0.2", "0.1", "0.2"]
    assert study.networks["broken"].null_count() == 4
    assert study.result.tags == ("arch", "lr")
    assert found(study, "m").spearman.value == pytest.approx(1)
    assert found(study, "broken").pearson.reason == (
        "at least 3 networks are needed, and there are 0"
    )
    assert found(study, "m", group="a").networks == 2


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            pl.DataFrame({"gap": [1.0]}),
            "`frame` has no column id, which names the networks; it has ",
        ),
        (pl.DataFrame({"id": ["a", "a"], "gap": [1.0, 2]}), "`frame`: the id a occurs more than"),
        (pl.DataFrame({"id": ["a", None], "gap": [1.0, 2]}), "`frame`: 1 rows have no id."),
        (pl.DataFrame({"id": ["a"], "m": [[1]]}), "`frame`: column 'm' holds List"),
        (
            pl.DataFrame({"id": ["a"], "run": ["x"], "tag.run": ["y"], "gap": [1.0]}),
            "`frame`: the columns run and tag.run are the same tag.",
        ),
        (pl.DataFrame({"id": ["a"], "m": [1.0]}), "the networks have none of the columns test.acc"),
        (pl.DataFrame({"id": [], "gap": []}), "no network could be scored."),
    ],
)
def test_frames_that_cannot_be_used(frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(DataError) as raised:
        cnatool.study(frame=frame)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "arch"}, "`by` arch: no network has this tag; there are lr, width, seed."),
        ({"cluster": "x"}, "`cluster` x: no network has this tag; there are lr, width, seed."),
        ({"hyperparameters": ["lr", "x"]}, "`hyperparameters` x: no network has this tag"),
        (
            {"compare": [("same", "x")]},
            "`compare` same,x: no measure has the name x. There are same,",
        ),
        ({"resamples": -1}, "`resamples` and `seed` must be at least 0"),
        ({"targets": []}, "`targets`: name at least one column."),
        ({"targets": "lost"}, "`targets` lost: no column of numbers has this name. There are test"),
        ({"targets": ["tag.lr"]}, "`targets` tag.lr: no column of numbers has this name"),
        (
            {"targets": ["same"], "compare": [("same", "noise")]},
            "no measure has the name same. There",
        ),
    ],
)
def test_options_that_cannot_be_meant(options: dict, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        cnatool.study(frame=collection(), **options)
    assert message in str(raised.value)


def test_a_cluster_for_every_network() -> None:
    frame = collection().with_columns(
        pl.when(pl.col("id") != "net-0-0-0").then("tag.lr").alias("tag.run")
    )
    with pytest.raises(UsageError, match=r"`cluster` run: 1 networks do not have this tag \(net-0"):
        cnatool.study(frame=frame, cluster="run")


def test_nothing_to_study() -> None:
    with pytest.raises(
        UsageError, match="there is nothing to study: give `stores`, or networks by `frame`"
    ):
        cnatool.study()
