"""How well values agree, against NumPy over whole arrays, and where noise arises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine
from support.networks import residual_convnet, saved

import cnatool
from cnatool.comparing.agreement import AgreementSums, find_added_noise
from cnatool.records.store import TensorRecord


def agreement(first: np.ndarray, second: np.ndarray, parts: int = 1) -> Any:
    sums = AgreementSums()
    for x, y in zip(np.array_split(first, parts), np.array_split(second, parts), strict=True):
        sums.add(x, y)
    return sums.agreement()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
def test_ratio_and_cosine_are_those_of_the_whole_arrays(dtype: str) -> None:
    rng = np.random.default_rng(0)
    first = (100 * rng.normal(size=(300, 5, 70))).astype(dtype)
    second = (first.astype(np.float64) + rng.normal(size=first.shape)).astype(dtype)
    found = agreement(first, second, parts=7)
    x, y = (each.astype(np.float64).ravel() for each in (first, second))
    noise = ((x - y) ** 2).sum() / (x**2).sum()
    assert found.noise == pytest.approx(noise, rel=1e-12)
    assert found.sqnr == pytest.approx(10 * np.log10((x**2).sum() / ((x - y) ** 2).sum()))
    assert found.cosine == pytest.approx(1 - cosine(x, y), abs=1e-12)
    assert found.reason is None


def test_what_has_no_ratio_says_why() -> None:
    ones, zeros = np.ones((4, 3)), np.zeros((4, 3))
    equal = agreement(ones, ones)
    assert (equal.sqnr, equal.cosine, equal.noise) == (None, 1.0, 0.0)
    assert equal.reason == "the values are equal"
    silent = agreement(zeros, ones)
    assert (silent.sqnr, silent.cosine, silent.noise) == (None, None, None)
    assert silent.reason == "all values are 0 in the first store"
    lost = agreement(ones, zeros)
    assert (lost.sqnr, lost.cosine, lost.noise) == (0.0, None, 1.0)
    assert lost.reason == "all values are 0 in the second store"
    infinite = agreement(np.full((4, 3), np.inf), ones)
    assert (infinite.sqnr, infinite.cosine, infinite.noise) == (None, None, None)
    assert infinite.reason == "sums of squares are not finite"


def tensor(number: int, sources: tuple[int, ...] | None = None) -> TensorRecord:
    plain: dict[str, Any] = {} if sources is None else {"sources": sources}
    return TensorRecord(number, f"t{number}", "Add", "other", "float32", (3,), 0, "full", **plain)


def test_noise_is_added_where_it_is_larger_than_in_what_a_tensor_is_computed_from() -> None:
    # 0 → 1 → 2, 0 → 3; 4 adds 2 and 3; 5 follows 4. Of 3 nothing is known.
    tensors = [tensor(n, s) for n, s in enumerate([(), (0,), (1,), (0,), (2, 3), (4,)])]
    noise = {0: 0.01, 1: 0.05, 2: 0.02, 4: 0.03, 5: 0.03}
    added = find_added_noise(tensors, noise)
    assert added == pytest.approx({0: 0.01, 1: 0.04, 2: 0.0, 4: 0.01, 5: 0.0})
    assert find_added_noise(tensors, {0: 0.01, 5: 0.02}) == pytest.approx({0: 0.01, 5: 0.01})


def test_without_a_graph_noise_is_compared_with_the_tensor_before() -> None:
    added = find_added_noise([tensor(n) for n in range(4)], {0: 0.01, 2: 0.04, 3: 0.02})
    assert added == pytest.approx({0: 0.01, 2: 0.03, 3: 0.0})


@given(st.data())
def test_added_noise_follows_every_path(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))
    tensors = [
        tensor(n, tuple(sorted(data.draw(st.sets(st.integers(0, n - 1), max_size=3)))) if n else ())
        for n in range(count)
    ]
    share = st.floats(0, 1)
    noise = {n: data.draw(share) for n in range(count) if data.draw(st.booleans())}

    def reach(number: int) -> set[int]:
        """Return the first tensors with known noise on all paths backwards."""
        ends: set[int] = set()
        for source in tensors[number].sources or ():
            ends |= {source} if source in noise else reach(source)
        return ends

    expected = {
        n: max(0.0, noise[n] - max((noise[s] for s in reach(n)), default=0.0)) for n in noise
    }
    assert find_added_noise(tensors, noise) == expected


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.inf, np.nan, 1e300])
def test_sums_that_are_not_finite_are_a_reason_and_no_warning(value: float) -> None:
    found = agreement(np.array([value, 1.0]), np.array([value, 2.0]))
    assert (found.sqnr, found.reason) == (None, "sums of squares are not finite")


def perturbed(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for weight in copy.graph.initializer:
        if weight.name == name:
            values = onnx.numpy_helper.to_array(weight)
            noise = np.random.default_rng(1).normal(0, 0.2 * values.std(), values.shape)
            weight.CopyFrom(onnx.numpy_helper.from_array((values + noise).astype("f4"), name))
    return copy


def test_the_layer_with_other_weights_is_named(tmp_path: Path) -> None:
    model = residual_convnet()
    rng = np.random.default_rng(0)
    image = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(40, *image)).astype(np.float32))
    one = saved(model, tmp_path / "one.onnx")
    first = cnatool.dump(one, tmp_path / "data.npz", tmp_path / "one.zarr", keep="full")
    producer = {name: node for node in model.graph.node for name in node.output}
    for layer in first.layers[1:3]:
        weight = producer[layer.linear].input[1]
        two = saved(perturbed(model, weight), tmp_path / "two.onnx")
        store = tmp_path / "two.zarr"
        cnatool.dump(two, tmp_path / "data.npz", store, keep="full", overwrite=True)
        split = cnatool.compare(first, store).splits["all"]
        assert split.first_apart == layer.linear
        assert split.by_added_noise[0] in (layer.linear, layer.preactivation)
        place = [t.name for t in split.tensors].index(layer.linear)
        assert all(each.agreement.noise == 0 for each in split.tensors[:place])
        worst = split.tensors[place]
        values, others = (
            cnatool.open(path).splits["all"].activations(layer.linear)[:]
            for path in (tmp_path / "one.zarr", store)
        )
        row = np.abs(values - others).reshape(40, -1).max(axis=1).argmax()
        assert worst.activations.row == row
        assert worst.worst == first.splits["all"].ids[int(row)]
