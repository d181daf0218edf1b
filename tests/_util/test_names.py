"""Names that a message suggests for one that is mistyped."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnatool._util.names import advise_on_name, find_near_names

NAMES = ["/conv1/Conv_output_0", "/relu1/Relu_output_0", "fc", "fc_2", "layer4.1.relu"]


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("fc2", ["fc_2", "fc"]),
        ("relu", ["/relu1/Relu_output_0", "layer4.1.relu"]),
        ("/conv_1/", ["/conv1/Conv_output_0"]),
        ("!Conv1*", ["/conv1/Conv_output_0"]),
        ("layer4.1.rellu", ["layer4.1.relu"]),
        ("softmax", []),
        ("*", []),
        ("", []),
    ],
)
def test_near_names_contain_a_name_or_are_spelled_like_it(pattern: str, near: list[str]) -> None:
    assert find_near_names(pattern, NAMES) == near


def test_advice_names_at_most_three() -> None:
    path = Path("net.zarr")
    assert advise_on_name("softmax", NAMES, path) == "`cnatool inspect net.zarr` lists the tensors."
    assert advise_on_name("layer", NAMES, path) == (
        "Did you mean 'layer4.1.relu'? `cnatool inspect net.zarr` lists all."
    )
    many = [f"relu{i}" for i in range(9)]
    assert advise_on_name("relu", many, path).startswith(
        "Did you mean 'relu0', 'relu1' or 'relu2'? "
    )
