"""Which tags count as hyperparameters."""

from itertools import product

import pytest

from cnatool.studying.tags import find_hyperparameters


def tags(*names: str, rows: list[tuple]) -> dict[str, list]:
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


GRID = list(product(("0.1", "0.01"), ("64", "512"), ("0", "1")))
CASES = {
    "the cluster of checkpoints": (
        tags("run", "epoch", rows=list(product("ab", "012"))),
        "run",
        ("epoch",),
        {"run": "the cluster"},
    ),
    "a run named by its settings": (
        tags(
            "lr", "width", "seed", "run", rows=[(a, b, s, f"{a}-{b}-{s}") for a, b, s in GRID * 2]
        ),
        None,
        ("lr", "width"),
        {"seed": "a repetition", "run": "names a combination: lr, width follow from it"},
    ),
    "an unknown name for one setting and its seed": (
        tags("lr", "seed", "series", rows=[(a, s, a + s) for a, _, s in GRID]),
        None,
        ("lr",),
        {"seed": "a repetition", "series": "names a combination: lr follows from it"},
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
        {"family": "follows from architecture"},
    ),
    "two that always change together": (
        tags("lr", "batch", "width", rows=[(a, a + "!", b) for a, b, _ in GRID]),
        None,
        ("lr", "width"),
        {"batch": "follows from lr"},
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
    assert find_hyperparameters(values, cluster) == (expected, left_out)
