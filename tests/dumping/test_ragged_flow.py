"""Whole values inside branches and loops about which the data decide, as rows of varying length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.control_flow import (
    Flow,
    branch_of_batch,
    branching,
    decided_twice,
    decoder,
    found_in_loops,
    if_different_shapes,
    trips_differ,
    trips_of_batch,
)
from support.literal import literal_values, stack
from support.networks import saved
from support.notes import Notes
from support.reference import difference
from support.stored_flow import compare_with_literal

import cnatool
from cnatool.store.statistics import row_statistics


def write(flow: Flow, folder: Path) -> tuple[Path, Path]:
    np.savez(folder / "data.npz", **flow.feeds)
    return saved(flow.model, folder / "model.onnx"), folder / "data.npz"


def is_whole(store: cnatool.Store) -> dict[str, bool]:
    """Tell which of the tensors that vary are stored whole."""
    return {tensor.name: tensor.kept == "full" for tensor in store.tensors if tensor.varies}


def rows_of_batches(flow: Flow, size: int, tensor: object) -> Iterator[np.ndarray]:
    """Evaluate a tensor batch by batch, each a run of its own, and yield its samples."""
    count = len(flow.feeds["x"])
    for start in range(0, count, size):
        feeds = {name: x[start : start + size] for name, x in flow.feeds.items()}
        samples = min(size, count - start)
        values = literal_values(flow.model, feeds).get(tensor.name, {})
        if all(value is None for value in values.values()):  # also stacked from no iterations
            yield from [np.empty(0)] * samples
            continue
        whole = stack(values)
        if tensor.merged:
            axis = tensor.batch_axis
            whole = whole.reshape(*whole.shape[:axis], samples, -1, *whole.shape[axis + 1 :])
        yield from np.moveaxis(whole, tensor.batch_axis, 0)


@pytest.mark.parametrize("make", [trips_of_batch, branch_of_batch])
@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_batches_decide(make: Callable[[], Flow], name: str, tmp_path: Path) -> None:
    flow, notes = make(), Notes()
    store = cnatool.dump(
        *write(flow, tmp_path), tmp_path / name, batch_size=4, statistics=["sum"], observer=notes
    )
    varying = [tensor for tensor in store.tensors if tensor.varies]
    assert len(varying) >= 3
    assert {tensor.name for tensor in store.tensors if "/" in tensor.name} <= set(is_whole(store))
    assert all(is_whole(store).values())
    split = store.splits["all"]
    for tensor in varying:
        values = split.outputs(1) if tensor.output else split.activations(tensor.name)
        rows = list(values[:])
        sums, counts = (split.statistics(s)[:][:, tensor.number] for s in ("sum", "count"))
        truth = list(rows_of_batches(flow, 4, tensor))
        assert len(rows) == len(truth) == len(flow.feeds["x"])
        assert {0} < {row.size for row in truth}, "all batches decide alike"
        for row, expected, total, count in zip(rows, truth, sums, counts, strict=True):
            assert row.size == expected.size == count
            assert total == row_statistics(row[None], ["sum"])["sum"][0]
            if expected.size:
                assert difference(row, expected.astype(row.dtype)) is None, tensor.name
    assert cnatool.verify(store.path).faults == ()
    other = tmp_path / f"other{Path(name).suffix}"
    kept = cnatool.dump(*write(flow, tmp_path), other, batch_size=4, keep="statistics")
    np.testing.assert_array_equal(
        kept.splits["all"].statistics("count")[:], split.statistics("count")[:]
    )
    np.testing.assert_allclose(
        kept.splits["all"].statistics("sum")[:], split.statistics("sum")[:], rtol=1e-5
    )
    assert any("depend on the other samples of a batch" in text for text in notes.texts)


def test_a_branch_that_no_sample_of_the_probe_takes(tmp_path: Path) -> None:
    flow = branching()
    x = flow.feeds["x"][np.argsort(np.abs(flow.feeds["x"]).sum(axis=1))]
    flow = Flow(flow.name, flow.model, {"x": x}, alone=True)
    store = cnatool.dump(*write(flow, tmp_path), tmp_path / "s.zarr", batch_size=1)
    assert all(is_whole(store).values())
    lengths = store.splits["all"].activations("choose/then_branch/inside").lengths
    assert set(lengths[:8]) == {0}
    assert set(lengths) == {0, 6}
    assert compare_with_literal(store, flow)


@pytest.mark.parametrize(
    ("make", "sums"),
    [
        (trips_differ, set()),
        (if_different_shapes, set()),
        # Each iteration decides about its branch; a sequence grows.
        (decided_twice, {"choose/then_branch/r", "choose/else_branch/s", "choose/else_branch/r"}),
        (decoder, {"decode/body/longer"}),
        (found_in_loops, {"inside/body/inner", "inside/body/numbers"}),
    ],
)
def test_samples_decide(make: Callable[[], Flow], sums: set[str], tmp_path: Path) -> None:
    flow = make()
    stores = [
        cnatool.dump(*write(flow, tmp_path), tmp_path / name, batch_size=1, statistics=["min"])
        for name in ("s.zarr", "s.h5")
    ]
    stores.append(cnatool.convert(stores[0].path, tmp_path / "converted.h5"))
    assert cnatool.compare(*stores[:2]).same
    for store in stores:
        assert cnatool.verify(store.path).faults == ()
        assert compare_with_literal(store, flow)
        kept = {name for name, whole in is_whole(store).items() if not whole and "/" in name}
        assert {name.removeprefix("outer/body/") for name in kept} == sums
