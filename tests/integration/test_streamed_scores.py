"""The same scores from whole activations, from statistics and from two stores; overrides by hand.

What an override does is compared with NumPy over arrays that plain zarr reads from the store.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import zarr
from support.networks import mlp, residual_convnet, saved
from support.stores import changed_attribute

import cnatool
from cnatool.errors import DataError, UsageError

ROWS = {"train": 150, "test": 90}
NETWORKS = {"mlp": mlp, "residual": residual_convnet}
CONVENTIONS = ("paper", "reference", "legacy")

# The residual network's floating tensors in execution order, as its definition lists them.
HIDDEN = (
    *("stem", "stem_bn", "stem_relu", "a1", "a1_bn", "a1_relu", "a2", "a2_bn", "a_sum", "a_out"),
    *("b1", "b1_bn", "b1_relu", "b2", "b2_bn", "projection", "projection_bn", "b_sum", "b_out"),
    *("pooled", "flat"),
)
LAST = ("logits", "probabilities")
# Few resamples will do where the same are drawn from the same numbers, and none will for β.
FEW = {"resamples": "50", "area_resamples": "200", "permutations": "50"}
NONE = {"resamples": "0", "area_resamples": "0", "permutations": "0"}
# Its linear operators, and how many lie on the longest path up to each.
LAYERS = {"stem": 1, "a1": 2, "a2": 3, "b1": 4, "b2": 5, "projection": 4, "logits": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of all sorts of complexity, and the networks' files."""
    folder = tmp_path_factory.mktemp("streamed")
    rng = np.random.default_rng(11)
    (folder / "data").mkdir()
    for name, rows in ROWS.items():
        levels = rng.integers(2, 257, (rows, 1, 1))
        x = (rng.integers(0, levels, (rows, 8, 8)) * 255 // (levels - 1)).astype(np.uint8)
        np.savez_compressed(folder / "data" / f"{name}.npz", x=x, y=rng.integers(0, 10, rows))
    for name, network in NETWORKS.items():
        saved(network(), folder / f"{name}.onnx")
    return folder


@pytest.fixture(scope="module")
def stores(folder: Path) -> dict[str, Path]:
    """One store of each network with whole activations."""
    found = {name: folder / f"{name}.zarr" for name in NETWORKS}
    for name, path in found.items():
        cnatool.dump(folder / f"{name}.onnx", folder / "data", path, batch_size=32)
    return found


@pytest.fixture(scope="module")
def expected(stores: dict[str, Path]) -> dict[tuple[str, str], cnatool.ScoreResult]:
    """The scores of both networks by each convention."""
    return {
        (network, convention): cnatool.score(stores[network], convention=convention, overrides=FEW)
        for network in NETWORKS
        for convention in CONVENTIONS
    }


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_whole_activations_give_what_statistics_give(
    network: str,
    convention: str,
    stores: dict[str, Path],
    expected: dict[tuple[str, str], cnatool.ScoreResult],
    tmp_path: Path,
) -> None:
    bare = _without_statistics(stores[network], tmp_path / "bare.zarr")
    assert not cnatool.open(bare).splits["train"].has_statistic("sum")
    found = cnatool.score(bare, convention=convention, overrides=FEW)
    _assert_same(found, expected[network, convention], rel=1e-9)


@pytest.fixture(scope="module")
def thin(folder: Path) -> dict[str, cnatool.Store]:
    """One store of each network with statistics alone."""
    return {
        name: cnatool.dump(
            folder / f"{name}.onnx",
            folder / "data",
            folder / f"{name}-thin.zarr",
            keep="statistics",
            batch_size=32,
        )
        for name in NETWORKS
    }


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_store_of_statistics_gives_the_same(
    network: str,
    convention: str,
    thin: dict[str, cnatool.Store],
    expected: dict[tuple[str, str], cnatool.ScoreResult],
) -> None:
    store = thin[network]
    assert not (store.path / "splits" / "train" / "activations").exists()
    # Rows and planes are summed in float32 there, which the reference area magnifies.
    rel = {"mlp": 2e-5, "residual": 2e-3}[network]
    found = cnatool.score(store, convention=convention, overrides=FEW)
    _assert_same(found, expected[network, convention], rel=rel)


@pytest.fixture(scope="module")
def parts(folder: Path) -> dict[str, cnatool.Store]:
    """A store of each split."""
    return {
        name: cnatool.dump(
            folder / "mlp.onnx",
            store=folder / f"{name}.zarr",
            splits={name: folder / "data" / f"{name}.npz"},
            batch_size=32,
        )
        for name in ROWS
    }


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_two_stores_give_what_one_gives(
    convention: str,
    parts: dict[str, cnatool.Store],
    expected: dict[tuple[str, str], cnatool.ScoreResult],
) -> None:
    train, test = parts["train"], parts["test"]
    result = cnatool.score(train, test=test.path, convention=convention, overrides=FEW)
    assert result.test_store == str(test.path)
    assert list(result.splits) == ["train", "test"]
    _assert_same(result, expected["mlp", convention], rel=1e-12)


def test_of_two_stores_each_has_its_split(
    stores: dict[str, Path],
    parts: dict[str, cnatool.Store],
    expected: dict[tuple[str, str], cnatool.ScoreResult],
    tmp_path: Path,
) -> None:
    with pytest.raises(UsageError, match="needs one called 'train'"):
        cnatool.score(parts["test"], test=parts["train"])
    # Of a store that has both splits, the one in question counts.
    copy = shutil.copytree(stores["mlp"], tmp_path / "copy.zarr")
    whole = cnatool.score(stores["mlp"], test=copy, overrides=FEW)
    _assert_same(whole, expected["mlp", "paper"], rel=1e-12)


@pytest.mark.parametrize("form", ["entropy", "entropy-density"])
@pytest.mark.parametrize("choice", ["drop", "clip"])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_out_of_range(
    kind: str, choice: str, form: str, stores: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    overrides = {"out_of_range": choice, "range": "0.2:0.8", "bins": "50", "alpha": form}
    store = stores["mlp"] if kind == "uint8" else _dumped_floats(folder, tmp_path)
    frame = cnatool.score_samples(store, overrides=overrides)
    for name in ROWS:
        raw = np.load(folder / "data" / f"{name}.npz")["x"]
        x = raw / 255 if kind == "uint8" else _floats(raw)
        expected = []
        for image in x:
            inside = image.clip(0.2, 0.8) if choice == "clip" else image
            if form == "entropy-density":
                inside = inside.astype(np.float32)
            counts, edges = np.histogram(inside, 50, (0.2, 0.8))  # which drops what lies outside
            p = counts[counts > 0] / counts.sum()
            d = p / np.diff(edges)[counts > 0]
            expected.append(-np.sum(p * np.log2(p) if form == "entropy" else d * np.log2(d)))
        got = frame.filter(frame["split"] == name)["alpha"].to_numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


def test_out_of_range_is_an_error_that_names_row_and_value(folder: Path, tmp_path: Path) -> None:
    store = _dumped_floats(folder, tmp_path)
    x = _floats(np.load(folder / "data" / "train.npz")["x"])
    row = int(np.argmax((x < 0).any(axis=(1, 2)) | (x > 1).any(axis=(1, 2))))
    value = next(v for v in x[row].ravel() if not 0 <= v <= 1)
    text = f"{tmp_path / 'floats.zarr'}, split 'train': Sample row {row} holds {value:g}, outside"
    with pytest.raises(DataError) as caught:
        cnatool.score(store)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(("output", "shortcut"), [(False, True), (True, False)])
def test_layers_all(output: bool, shortcut: bool, stores: dict[str, Path]) -> None:
    overrides = {
        "layers": "all",
        "include_output": str(output).lower(),
        "include_shortcut": str(shortcut).lower(),
    }
    names = [
        name
        for name in (*HIDDEN, *LAST)
        if (output or name not in LAST) and (shortcut or not name.startswith("projection"))
    ]
    _assert_beta(stores["residual"], overrides, names, range(1, len(names) + 1))


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ("stem,a1,b2", ["stem", "a1", "b2"]),
        ("b2, a1 ,stem", ["stem", "a1", "b2"]),  # in execution order, however they are written
        ("a*_bn,b_out", ["a1_bn", "a2_bn", "b_out"]),
        ("*_relu,logits", ["stem_relu", "a1_relu", "b1_relu", "logits"]),
        ("projection*,stem,p*", ["stem", "projection", "projection_bn", "pooled"]),
    ],
)
def test_layers_by_name_and_glob(layers: str, names: list[str], stores: dict[str, Path]) -> None:
    _assert_beta(stores["residual"], {"layers": layers}, names, range(1, len(names) + 1))


def test_layers_from_a_file(stores: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "layers.txt"
    file.write_text("a_sum\n\n  stem_bn  \nb?_bn\n")
    names = ["stem_bn", "a_sum", "b1_bn", "b2_bn"]
    _assert_beta(stores["residual"], {"layers": f"@{file}"}, names, [1, 2, 3, 4])
    file.write_text("a_sum\nnone_such\n")
    with pytest.raises(UsageError, match="layers='none_such'"):
        cnatool.score(stores["residual"], overrides={"layers": f"@{file}"})


@pytest.mark.parametrize("rule", ["preactivation", "linear"])
@pytest.mark.parametrize("depth", ["index", "path"])
@pytest.mark.parametrize("output", [False, True])
def test_depth_output_and_shortcut(
    output: bool, depth: str, rule: str, stores: dict[str, Path]
) -> None:
    # Of the four choices, any three in every combination.
    shortcut = (rule == "linear") ^ (depth == "path") ^ output
    overrides = {
        "layers": rule,
        "depth": depth,
        "include_output": str(output).lower(),
        "include_shortcut": str(shortcut).lower(),
    }
    counted = {
        name: path
        for name, path in LAYERS.items()
        if (output or name != "logits") and (shortcut or name != "projection")
    }
    depths = list(counted.values()) if depth == "path" else list(range(1, len(counted) + 1))
    # The rule `linear` stops before BatchNormalization. The softmax behind the last layer is a
    # nonlinearity, and ends both.
    names = [name if rule == "linear" or name == "logits" else f"{name}_bn" for name in counted]
    _assert_beta(stores["residual"], overrides, names, depths)


@pytest.mark.parametrize("aggregate", ["sum", "mean", "channel-mean", "channel-mean-spatial"])
def test_aggregate(aggregate: str, stores: dict[str, Path]) -> None:
    names = ["stem_bn", "b1_relu", "b_out", "flat", "logits"]
    overrides = {"layers": ",".join(names), "aggregate": aggregate}
    _assert_beta(stores["residual"], overrides, names, range(1, 6), aggregate)


def test_legacy_counts_no_projection_and_averages_channels(stores: dict[str, Path]) -> None:
    names = ["stem_bn", "a1_bn", "a2_bn", "b1_bn", "b2_bn", "logits"]
    _assert_beta(
        stores["residual"], {}, names, range(1, 7), "channel-mean-spatial", convention="legacy"
    )


def _assert_beta(
    store: Path,
    overrides: dict[str, str],
    names: list[str],
    depths: Any,
    aggregate: str = "sum",
    convention: str = "paper",
) -> None:
    """Compare the layers, β of every sample, and CNA."""
    result = cnatool.score(store, convention=convention, overrides=NONE | overrides)
    assert [(layer.name, layer.depth) for layer in result.layers] == list(
        zip(names, depths, strict=True)
    )
    for field, text in overrides.items():
        assert f"+{field}={text}" in str(result.convention)
    frame = cnatool.score_samples(store, convention=convention, overrides=overrides)
    for split in ROWS:
        z = [_AGGREGATES[aggregate](_array(store, split, name)) for name in names]
        points = np.stack([np.array(list(depths), float), np.ones(len(names))], axis=1)
        (beta, _), *_ = np.linalg.lstsq(points, np.stack(z), rcond=None)
        rows = frame.filter(frame["split"] == split)
        # Sums in the graph are partly float32; what cancels in a slope is a part of the greatest.
        np.testing.assert_allclose(rows["beta"], beta, rtol=1e-6, atol=1e-6 * np.abs(z).max())
        cna = scipy.stats.pearsonr(rows["alpha"].to_numpy(), beta).statistic
        assert result.splits[split].coefficients.pearson.value == pytest.approx(cna, abs=1e-5)


_AGGREGATES = {
    "sum": lambda z: z.reshape(len(z), -1).sum(axis=1),
    "mean": lambda z: z.reshape(len(z), -1).mean(axis=1),
    "channel-mean": lambda z: z.mean(axis=1).reshape(len(z), -1).sum(axis=1),
    "channel-mean-spatial": lambda z: (
        z.mean(axis=1).sum(axis=(1, 2)) if z.ndim == 4 else z.sum(axis=1)
    ),
}


def _array(store: Path, split: str, name: str) -> np.ndarray:
    """Read a tensor with zarr alone, as float64."""
    tensors = {tensor["name"]: tensor for tensor in _attribute(store)["tensors"]}
    group = zarr.open_group(store, mode="r")[f"splits/{split}"]
    tensor = tensors[name]
    if tensor["output"] is not None:
        return np.asarray(group[f"outputs/{tensor['output']}"][:], np.float64)
    return np.asarray(group[f"activations/{tensor['number']}"][:], np.float64)


def _attribute(store: Path) -> dict[str, Any]:
    return json.loads((store / "zarr.json").read_text())["attributes"]["cnatool"]


def _without_statistics(store: Path, copy: Path) -> Path:
    """Copy a store as one would be that never had statistics."""
    shutil.copytree(store, copy)
    with changed_attribute(copy) as attribute:
        attribute["statistics"] = []
        for split in attribute["splits"].values():
            split["checksums"] = None
    for split in ROWS:
        shutil.rmtree(copy / "splits" / split / "statistics")
    return copy


def _floats(raw: np.ndarray) -> np.ndarray:
    """Spread pictures beyond 0 … 1."""
    return (raw / 255 * 1.5 - 0.25).astype(np.float32)


def _dumped_floats(folder: Path, tmp_path: Path) -> Path:
    data = tmp_path / "floats"
    data.mkdir()
    for name in ROWS:
        pictures = np.load(folder / "data" / f"{name}.npz")
        np.savez(data / f"{name}.npz", x=_floats(pictures["x"]), y=pictures["y"])
    cnatool.dump(folder / "mlp.onnx", data, tmp_path / "floats.zarr", tensors="layers")
    return tmp_path / "floats.zarr"


def _assert_same(found: cnatool.ScoreResult, expected: cnatool.ScoreResult, *, rel: float) -> None:
    assert found.layers == expected.layers
    assert found.convention == expected.convention
    one, other = json.loads(found.to_json()), json.loads(expected.to_json())
    first, second = (
        dict(_leaves({key: result[key] for key in result if "store" not in key}))
        for result in (one, other)
    )
    assert first.keys() == second.keys()
    numbers = [key for key, value in second.items() if isinstance(value, float)]
    assert len(numbers) > 20
    wrong = {
        key: (first[key], value)
        for key, value in second.items()
        if first[key] != (pytest.approx(value, rel=rel) if key in numbers else value)
    }
    assert not wrong


def _leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return [(path, value)]
    return [leaf for key, inner in items for leaf in _leaves(inner, f"{path}.{key}")]
