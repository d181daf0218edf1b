"""Norms of weights that a caller hands over, and stores that say of them what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.networks import mlp, saved
from support.stores import changed_attribute

import cnatool
from cnatool.errors import StoreDamagedError, UsageError

RNG = np.random.default_rng(0)
WEIGHTS = {
    "first": RNG.normal(size=(6, 1, 3, 3)).astype(np.float32),
    "second": RNG.normal(size=(4, 6, 2, 2)).astype(np.float32),
    "logits": RNG.normal(size=(10, 4)),
}
LAYERS = [
    cnatool.Layer("first"),
    cnatool.Layer("second", groups=1),
    cnatool.Layer("logits", output=True),
]


def recorded(path: Path, layers: list[cnatool.Layer] = LAYERS, **given: Any) -> cnatool.ScoreResult:
    with cnatool.create_store(
        path, tensors=list(WEIGHTS), layers=layers, outputs=["logits"], **given
    ) as store:
        # Every sample is told with some margin.
        y = np.arange(60) % 10
        store.append(
            "train",
            inputs=RNG.integers(0, 256, (60, 8, 8), np.uint8),
            outputs=np.eye(10, dtype=np.float32)[y] * 3,
            activations={
                n: RNG.normal(size=(60, len(given.get("weights", WEIGHTS).get(n, WEIGHTS[n]))))
                for n in ("first", "second")
            },
            labels=y,
        )
    assert cnatool.verify(path).faults == ()
    return cnatool.score(path)


def test_norms_are_those_of_the_arrays(tmp_path: Path) -> None:
    initial = {name: value * 0.5 for name, value in WEIGHTS.items()}
    result = recorded(tmp_path / "s.h5", weights=WEIGHTS, initial_weights=initial, parameters=123)
    gamma = result.margin.value
    flat = [value.reshape(len(value), -1).astype(np.float64) for value in WEIGHTS.values()]
    assert gamma is not None
    found = result.baselines
    product = np.prod([np.linalg.norm(w) for w in flat])
    assert found.l2.value == pytest.approx(product / gamma)
    product = np.prod([np.linalg.norm(w, 2) for w in flat])
    assert found.spectral.value == pytest.approx(product / gamma)
    norm = np.linalg.norm(np.concatenate([w.reshape(-1) for w in flat]))
    assert found.parameter_norm.value == pytest.approx(norm)
    assert found.distance.value == pytest.approx(norm / 2)
    assert (found.parameters.value, found.depth.value) == (123, 3)
    assert found.l2_path.reason == "it needs the network itself: dump an ONNX export of it"
    assert found.bound_2018.value == pytest.approx(found.bound_2018_from_zero.value / 2)


def test_groups_make_blocks(tmp_path: Path) -> None:
    layers = [cnatool.Layer("first", groups=6), *LAYERS[1:]]
    recorded(tmp_path / "s.zarr", layers, weights=WEIGHTS)
    weights = cnatool.open(tmp_path / "s.zarr").record.weights
    assert weights is not None
    first = weights.layers[0]
    assert (first.shape, first.blocks) == ((6, 54), 6)
    # Of a depthwise convolution the largest singular value is the longest kernel.
    lengths = np.linalg.norm(WEIGHTS["first"].reshape(6, -1), axis=1)
    assert first.spectral == pytest.approx(lengths.max())


@pytest.mark.parametrize("how", ["array", "views", "list", "transposed", "torch", "copies"])
def test_a_shared_array_counts_once_in_sums_and_twice_in_products(how: str, tmp_path: Path) -> None:
    whole = RNG.normal(size=(5, 5)).astype(np.float32)
    given: list[Any] = {
        "array": [whole, whole],
        "views": [whole[:], whole[:]],
        "list": [whole.tolist()] * 2,
        "transposed": [whole, whole.T],
        "copies": [whole, whole.copy()],
        "torch": [],
    }[how]
    if how == "torch":
        torch = pytest.importorskip("torch", reason="its tensors are views of memory")
        parameter = torch.nn.Parameter(torch.from_numpy(whole))
        given = [parameter.detach(), parameter.detach()]
    logits = WEIGHTS["logits"]
    weights = {"first": given[0], "second": given[1], "logits": logits}
    result = recorded(tmp_path / "s.zarr", weights=weights)
    record = cnatool.open(tmp_path / "s.zarr").record.weights
    assert record is not None
    shared = None if how == "copies" else 1
    assert [layer.same_as for layer in record.layers] == [None, shared, None]
    norm, last = np.linalg.norm(whole.astype(float)), np.linalg.norm(logits)
    found, gamma = result.baselines, result.margin.value
    assert gamma is not None
    assert found.l2.value == pytest.approx(norm * norm * last / gamma)
    sigma = np.linalg.norm(whole.astype(float), 2)
    assert found.spectral.value == pytest.approx(sigma * sigma * np.linalg.norm(logits, 2) / gamma)
    times = 2 if how == "copies" else 1
    assert found.parameter_norm.value == pytest.approx(np.sqrt(times * norm**2 + last**2))
    assert found.l1.value == pytest.approx(
        times * np.abs(whole.astype(float)).sum() + np.abs(logits).sum()
    )


def test_other_parts_of_one_array_are_not_shared(tmp_path: Path) -> None:
    whole = RNG.normal(size=(10, 5)).astype(np.float32)
    weights = {"first": whole[:5], "second": whole[::2], "logits": WEIGHTS["logits"]}
    recorded(tmp_path / "s.zarr", weights=weights)
    record = cnatool.open(tmp_path / "s.zarr").record.weights
    assert record is not None
    assert [layer.same_as for layer in record.layers] == [None, None, None]


def test_without_weights_there_are_no_baselines(tmp_path: Path) -> None:
    found = recorded(tmp_path / "s.zarr").baselines
    for measure in (found.l2, found.l2_path, found.parameters, found.depth):
        assert measure.value is None
        assert str(measure.reason).startswith("the store holds no norms of weights")


def test_a_layer_without_weights_takes_the_products_away(tmp_path: Path) -> None:
    given = {name: WEIGHTS[name] for name in ("first", "logits")}
    found = recorded(tmp_path / "s.zarr", weights=given).baselines
    assert found.l2.reason == "no weights were given for layer 2 ('second')"
    assert found.parameters.reason == "the number of parameters is not known"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": {"third": np.ones((2, 2))}}, "weights: 'third' is not a layer"),
        (
            {"weights": {"first": np.ones(3)}},
            r"weights\['first'\]: expected numbers of shape \(out, in",
        ),
        (
            {"weights": {"first": [[1, 2], [3]]}},
            r"weights\['first'\]: expected numbers of shape \(out, in",
        ),
        ({"weights": {"first": [["a"]]}}, r"weights\['first'\]: expected numbers of shape"),
        (
            {"weights": WEIGHTS, "initial_weights": {"first": WEIGHTS["first"]}},
            "initial_weights: the weights of layer 'second' are missing",
        ),
        (
            {"weights": WEIGHTS, "initial_weights": WEIGHTS | {"second": np.ones((4, 5))}},
            r"initial_weights\['second'\] has shape \(4, 5\), but weights\['second'\] \(4, 24\)",
        ),
        ({"initial_weights": WEIGHTS}, "initial_weights: pass weights too"),
    ],
)
def test_what_no_weights_can_be(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        recorded(tmp_path / "s.zarr", **given)


@pytest.mark.parametrize("known", ["at the first batch", "at opening"])
@pytest.mark.parametrize(
    ("shape", "fits"),
    [((6,), True), ((6, 4, 4), True), ((4, 4, 6), True), ((64,), False), ((8, 6, 8), False)],
)
def test_units_are_those_of_the_tensor(
    known: str, shape: tuple[int, ...], fits: bool, tmp_path: Path
) -> None:
    weights = {"a": np.ones((6, 64), np.float32)}
    opening = known == "at opening"

    def write() -> None:
        with cnatool.create_store(
            tmp_path / "s.zarr",
            tensors=["a", "y"],
            outputs=["y"],
            weights=weights,
            keep="statistics" if opening else "full",
            shapes={"a": shape} if opening else None,
        ) as store:
            assert fits or not opening
            value = np.ones((3, *shape), np.float32)
            given = {"statistics": {"sum": {"a": np.ones(3)}}} if opening else {}
            store.append(
                "train",
                inputs=np.zeros((3, 2)),
                outputs=np.zeros((3, 2), np.float32),
                activations=None if opening else {"a": value},
                **given,
            )

    if fits:
        write()
        assert cnatool.verify(tmp_path / "s.zarr").faults == ()
        return
    told = r"but tensor 'a' (has 64|is \(8, 6, 8\) for a sample): pass weights as \(out, in, …\)\.$"
    with pytest.raises(UsageError, match=r"weights\['a'\] has 6 units, " + told):
        write()
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spectral": -1.0}, "a norm of layer 1 is negative"),
        ({"frobenius": None}, "norms of layer 1 are missing without a reason"),
        ({"number": 7}, "it has 4 layers, but norms of the weights of others"),
        ({"shape": [0, 3]}, "have the impossible shape"),
    ],
)
def test_records_that_contradict_themselves(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((9, 8, 8), np.uint8))
    path = tmp_path / "s.zarr"
    cnatool.dump(saved(mlp(), tmp_path / "net.onnx"), tmp_path / "x.npz", path)
    with changed_attribute(path) as attribute:
        attribute["weights"]["layers"][0].update(change)
    with pytest.raises(StoreDamagedError, match=message):
        cnatool.open(path)


def test_a_store_from_before_there_were_norms_is_scored(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=RNG.integers(0, 9, (40, 8, 8), np.uint8), y=np.arange(40) % 10)
    path = tmp_path / "s.zarr"
    cnatool.dump(saved(mlp(), tmp_path / "net.onnx"), tmp_path / "x.npz", path)
    with changed_attribute(path) as attribute:
        del attribute["weights"], attribute["initial"]
    found = cnatool.score(path).baselines
    assert str(found.l2.reason).startswith("the store holds no norms of weights: dump the model")
