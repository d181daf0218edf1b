from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from support.networks import Builder, mlp, saved
from support.stores import changed_attribute

import cnatool
from cnatool.errors import MetricError, UsageError
from cnatool.metrics import area_stretches
from cnatool.metrics import cna as coefficients
from cnatool.metrics.area_resampling import ResampledAreas
from cnatool.scoring import train_test as scored_pairs


def digits(folder: Path, **splits: int) -> Path:
    rng = np.random.default_rng(7)
    folder.mkdir()
    for name, rows in splits.items():
        x = rng.integers(0, 256, (rows, 8, 8), np.uint8) // rng.integers(1, 99, (rows, 1, 1))
        np.savez(folder / f"{name}.npz", x=x.astype(np.uint8), y=rng.integers(0, 10, rows))
    return folder


def test_splits_of_two_networks_are_not_compared(tmp_path: Path) -> None:
    data = digits(tmp_path / "data", train=60, test=60)
    for seed, split in ((1, "train"), (2, "test")):
        path = saved(mlp(seed=seed), tmp_path / "net.onnx")
        cnatool.dump(path, data / f"{split}.npz", tmp_path / f"{split}.zarr")
    with pytest.raises(MetricError, match="cannot be compared: their models differ"):
        cnatool.score(tmp_path / "train.zarr", tmp_path / "test.zarr")


def test_intervals_do_not_depend_on_the_place_of_a_split(tmp_path: Path) -> None:
    data = digits(tmp_path / "data", train=60, test=60)
    np.savez(data / "again.npz", **np.load(data / "train.npz"))
    path = saved(mlp(), tmp_path / "net.onnx")
    sources = {name: data / f"{name}.npz" for name in ("train", "test", "again")}
    found = []
    for number, names in enumerate((("train", "test", "again"), ("again", "test"))):
        store = tmp_path / f"{number}.zarr"
        cnatool.dump(path, store=store, splits={name: sources[name] for name in names})
        found.append(cnatool.score(store).splits)
    first, second = found
    assert first["test"].cna == second["test"].cna
    assert first["again"].cna == second["again"].cna
    # The same samples under two names: two streams of resamples.
    assert first["train"].cna.value == first["again"].cna.value
    assert first["train"].cna.interval != first["again"].cna.interval


def test_many_samples_have_the_same_numbers_and_other_resamples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = digits(tmp_path / "data", train=500, test=400)
    store = tmp_path / "s.zarr"
    cnatool.dump(saved(mlp(), tmp_path / "net.onnx"), data, store)
    overrides = {"window": 1, "alpha_groups": 2}
    few = cnatool.score(store, overrides=overrides)
    monkeypatch.setattr(coefficients, "MANY", 450)
    monkeypatch.setattr(coefficients, "GROUPS", 100)
    monkeypatch.setattr(area_stretches, "MANY", 450)
    many = cnatool.score(store, overrides=overrides)
    assert many == cnatool.score(store, overrides=overrides)
    assert many.splits["test"] == few.splits["test"]
    train, same = many.splits["train"], few.splits["train"]
    assert msgspec.structs.replace(train, cna=same.cna) == same
    assert (train.cna.value, train.cna.p_value) == (same.cna.value, same.cna.p_value)
    assert train.cna.interval != same.cna.interval
    assert many.cna_area.value == few.cna_area.value
    assert many.cna_area.interval != few.cna_area.interval
    assert many.notes[-3:-1] == (
        "the interval of CNA of train comes from resamples of 100 random groups of its samples",
        "the interval of CNA-A and its value by chance are combined from stretches of 5 resamples "
        "and 5 relabellings",
    )


def test_the_interval_of_an_area_ends_at_0_and_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = np.array([-9.0, 9.0] * 20)
    monkeypatch.setattr(
        scored_pairs, "resample_areas", lambda *_, **__: ResampledAreas(wide, abs(wide))
    )
    data = digits(tmp_path / "data", train=60, test=60)
    cnatool.dump(saved(mlp(), tmp_path / "net.onnx"), data, tmp_path / "s.zarr")
    result = cnatool.score(tmp_path / "s.zarr")
    assert result.cna_area.interval == (0.0, 1.0)


def test_splits_are_not_renamed(tmp_path: Path) -> None:
    data = digits(tmp_path / "data", train=60, test=60)
    path = saved(mlp(), tmp_path / "net.onnx")
    for split in ("train", "test"):
        cnatool.dump(path, store=tmp_path / f"{split}.zarr", splits={split: data / f"{split}.npz"})
    cnatool.score(tmp_path / "train.zarr", tmp_path / "test.zarr")
    with pytest.raises(UsageError, match="has the splits test; .* needs one called 'train'"):
        cnatool.score(tmp_path / "test.zarr", tmp_path / "train.zarr")


def test_a_dump_that_was_cut_off_is_scored_as_far_as_it_came(tmp_path: Path) -> None:
    data = digits(tmp_path / "data", train=60, test=60)
    cnatool.dump(saved(mlp(), tmp_path / "net.onnx"), data, tmp_path / "s.zarr")
    with changed_attribute(tmp_path / "s.zarr") as attribute:
        attribute["splits"]["test"].update(committed=[], complete=False, checksums=None)
    result = cnatool.score(tmp_path / "s.zarr")
    assert result.splits["test"].samples == 0
    assert not result.splits["test"].complete
    assert result.splits["test"].performance_reason == "the split has no rows"
    assert result.splits["train"].cna.value is not None
    assert result.cna_area.value is None
    assert result.cna_area.reason


@pytest.mark.parametrize("operator", ["Softmax", "Sigmoid"])
def test_what_outputs_hold_is_read_from_the_graph(operator: str, tmp_path: Path) -> None:
    data = digits(tmp_path / "data", train=60, test=60)
    model = mlp()
    b = Builder()
    model.graph.node.append(b.nodes[-1] if b.node(operator, ["logits"], "out") else None)
    model.graph.output[0].name = "out"
    cnatool.dump(saved(model, tmp_path / "net.onnx"), data, tmp_path / "s.zarr")
    split = cnatool.score(tmp_path / "s.zarr").splits["train"]
    if operator == "Softmax":
        assert split.outputs == "probabilities"
        assert split.accuracy is not None
    else:
        assert split.outputs is None
        assert split.accuracy is None
        assert "independent scores" in split.performance_reason


def test_outputs_that_are_not_finite_give_no_accuracy(tmp_path: Path) -> None:
    data = digits(tmp_path / "data", train=60, test=60)
    model = mlp()
    b = Builder()
    b.node("Log", ["logits"], "out")
    model.graph.node.extend(b.nodes)
    model.graph.output[0].name = "out"
    cnatool.dump(saved(model, tmp_path / "net.onnx"), data, tmp_path / "s.zarr")
    result = cnatool.score(tmp_path / "s.zarr")
    split = result.splits["train"]
    assert (split.accuracy, split.loss) == (None, None)
    assert "the outputs are not finite for" in split.performance_reason
    assert result.gap.value is None
    assert split.cna.value is not None


def test_quantised_codes_are_no_layer(tmp_path: Path) -> None:
    b = Builder()
    scale, zero = b.constant("s", np.float32(0.1)), b.constant("z", np.uint8(128))
    tensor = "x"
    for i in range(3):
        b.gemm(tensor, f"fc{i}", 64, 64)
        b.node("QuantizeLinear", [f"fc{i}", scale, zero], f"q{i}")
        for side in "ab":
            b.node("DequantizeLinear", [f"q{i}", scale, zero], f"dq{i}{side}")
        tensor = b.node("Add", [f"dq{i}a", f"dq{i}b"], f"sum{i}")
    data = digits(tmp_path / "data", train=60)
    path = saved(b.model({"x": ("n", 64)}, {"sum2": ("n", 64)}), tmp_path / "net.onnx")
    store = cnatool.dump(path, data, tmp_path / "s.zarr")
    # the pair is split in two, so the layer is what goes into the quantisation
    assert [layer.preactivation for layer in store.layers] == ["fc0", "fc1", "fc2"]


def test_globs_follow_the_convention_and_names_do_not(tmp_path: Path) -> None:
    data = digits(tmp_path / "data", train=60)
    cnatool.dump(saved(mlp(), tmp_path / "net.onnx"), data, tmp_path / "s.zarr")

    def names(layers: str, **overrides: str) -> list[str]:
        result = cnatool.score(tmp_path / "s.zarr", overrides={"layers": layers, **overrides})
        return [layer.name for layer in result.layers]

    assert names("fc*,l*") == ["fc1", "fc2", "fc3"]
    assert names("fc*,l*", include_output="true") == ["fc1", "fc2", "fc3", "logits"]
    assert names("fc*,logits") == ["fc1", "fc2", "fc3", "logits"]
