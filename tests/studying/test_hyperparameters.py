"""Which tags count as hyperparameters."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cnatool.studying.hyperparameters import select_hyperparameters


def _grid(seeds: int = 2, epochs: int = 1) -> dict[str, list[str]]:
    rows = list(itertools.product("ab", "123", range(seeds), range(epochs)))
    tags = {
        "lr": [row[0] for row in rows],
        "width": [row[1] for row in rows],
        "seed": [str(row[2]) for row in rows],
        "epoch": [str(row[3]) for row in rows],
    }
    return {tag: values for tag, values in tags.items() if len(set(values)) > 1}


def _with(tags: dict[str, list[str]], name: str, *of: str) -> dict[str, list[str]]:
    """Add a tag that joins others, first in order."""
    return {name: ["-".join(values) for values in zip(*(tags[o] for o in of), strict=True)], **tags}


def test_a_grid() -> None:
    found = select_hyperparameters({**_grid(), "framework": ["torch"] * 12}, None)
    assert found.names == ("lr", "width")
    assert found.others == {"seed": "a repetition", "framework": "the same for all networks"}


@pytest.mark.parametrize("name", ["seed", "random_seed", "dataSeed", "init-seed", "repeat"])
def test_repetitions(name: str) -> None:
    grid = _grid()
    grid[name] = grid.pop("seed")
    found = select_hyperparameters(grid, None)
    assert found.names == ("lr", "width")
    assert found.others[name] == "a repetition"


@pytest.mark.parametrize("name", ["epoch", "step", "global_step", "iteration", "ckpt", "trainStep"])
def test_steps_of_training_are_held_fixed(name: str) -> None:
    grid = _grid(epochs=3)
    grid[name] = grid.pop("epoch")
    found = select_hyperparameters(grid, None)
    assert found.names == ("lr", "width")
    assert found.held == (name,)


@pytest.mark.parametrize("name", ["epochs", "step_size", "steps", "running_mean"])
def test_names_that_only_look_like_steps_or_runs(name: str) -> None:
    grid = _grid()
    grid[name] = grid.pop("width")
    assert select_hyperparameters(grid, None).names == ("lr", name)


def test_steps_that_each_network_stopped_at_are_not_held_fixed() -> None:
    grid = _grid()
    grid["epoch"] = [str(i // 2) for i in range(12)]
    found = select_hyperparameters(grid, None)
    assert found.names == ("lr", "width")
    assert found.held == ()
    assert found.others["epoch"] == "a step of training"


@pytest.mark.parametrize("cluster", ["run", "experiment", "x"])
def test_the_cluster_tag(cluster: str) -> None:
    grid = _with(_grid(seeds=2, epochs=3), cluster, "lr", "width", "seed")
    found = select_hyperparameters(grid, cluster)
    assert found.names == ("lr", "width")
    assert found.others[cluster] == "the clusters"


@pytest.mark.parametrize("name", ["run", "run_id", "config", "experiment"])
@pytest.mark.parametrize("of", [("lr", "width"), ("lr", "width", "seed")])
def test_names_of_runs_and_of_configurations(name: str, of: tuple[str, ...]) -> None:
    found = select_hyperparameters(_with(_grid(epochs=3), name, *of), None)
    assert found.names == ("lr", "width")
    assert name in found.others


def test_a_tag_that_names_each_network() -> None:
    found = select_hyperparameters({**_grid(), "file": [f"f{i}" for i in range(12)]}, None)
    assert found.names == ("lr", "width")
    assert found.others["file"] == "different for every network"


def test_tags_that_follow_from_others() -> None:
    grid = _grid()
    wide = {"1": "narrow", "2": "narrow", "3": "wide"}
    grid["kind"] = [wide[width] for width in grid["width"]]
    grid["lr_name"] = [{"a": "high", "b": "low"}[lr] for lr in grid["lr"]]
    grid["parameters"] = [
        str((lr == "a") + int(width)) for lr, width in zip(grid["lr"], grid["width"], strict=True)
    ]
    found = select_hyperparameters(grid, None)
    assert found.names == ("lr", "width")
    assert found.others["kind"] == "determined by width"
    assert found.others["lr_name"] == "goes with lr"
    assert found.others["parameters"] == "determined by lr, width"


def test_a_schedule_follows_from_the_step() -> None:
    grid = _grid(epochs=4)
    grid["current_lr"] = [{"0": "x", "1": "x", "2": "y", "3": "y"}[e] for e in grid["epoch"]]
    found = select_hyperparameters(grid, None)
    assert found.names == ("lr", "width")
    assert found.others["current_lr"] == "determined by epoch"


def test_designs_that_are_no_grid_keep_their_hyperparameters() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, (3, 40))
    tags = {name: list(map(str, row)) for name, row in zip("abc", values, strict=True)}
    assert select_hyperparameters(tags, None).names == ("a", "b", "c")
    square = list(itertools.product(range(3), range(3), range(2)))
    latin = {
        "a": [str(i) for i, _, _ in square],
        "b": [str(j) for _, j, _ in square],
        "c": [str((i + j) % 3) for i, j, _ in square],
        "seed": [str(k) for _, _, k in square],
    }
    assert select_hyperparameters(latin, None).names == ("a", "b", "c")


def tags(*names: str, rows: list[tuple]) -> dict[str, list]:
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


GRID = list(itertools.product(("0.1", "0.01"), ("64", "512"), ("0", "1")))
CASES = {
    "the cluster of checkpoints": (
        tags("run", "epoch", rows=list(itertools.product("ab", "012"))),
        "run",
        (),
        {"run": "the clusters", "epoch": "a step of training"},
    ),
    "a run named by its settings": (
        tags(
            "lr", "width", "seed", "run", rows=[(a, b, s, f"{a}-{b}-{s}") for a, b, s in GRID * 2]
        ),
        None,
        ("lr", "width"),
        {"seed": "a repetition", "run": "names runs"},
    ),
    "an unknown name for one setting and its seed": (
        tags("lr", "seed", "series", rows=[(a, s, a + s) for a, _, s in GRID]),
        None,
        ("lr",),
        {"seed": "a repetition", "series": "names combinations of lr"},
    ),
    "an architecture and its family": (
        tags(
            "architecture",
            "family",
            "lr",
            rows=[
                (a, a.rstrip("0123456789"), lr)
                for a in ("resnet18", "resnet50", "mlp1")
                for lr in "12"
            ]
            * 2,
        ),
        None,
        ("architecture", "lr"),
        {"family": "determined by architecture"},
    ),
    "two that always change together": (
        tags("lr", "batch", "width", rows=[(a, a + "!", b) for a, b, _ in GRID]),
        None,
        ("lr", "width"),
        {"batch": "goes with lr"},
    ),
    "nothing left out": (
        tags("lr", "width", rows=[g[:2] for g in GRID]),
        None,
        ("lr", "width"),
        {},
    ),
    "constant and different for every network": (
        tags("lr", "data", "file", rows=[(g[0], "mnist", i) for i, g in enumerate(GRID)]),
        None,
        ("lr",),
        {"data": "the same for all networks", "file": "different for every network"},
    ),
    "a tag that some networks lack": (
        tags("lr", "dropout", rows=[(g[0], g[1] if g[2] == "0" else None) for g in GRID]),
        None,
        ("lr", "dropout"),
        {},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_hyperparameters_are_found_by_how_tags_vary(case: str) -> None:
    values, cluster, expected, left_out = CASES[case]
    found = select_hyperparameters(values, cluster)
    assert (found.names, found.others) == (expected, left_out)
