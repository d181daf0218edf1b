from __future__ import annotations

import pytest

from cnatool.recorders.layer_rule import Step, find_layers


@pytest.mark.parametrize(
    ("product", "preactivation"),
    [(("matmul", (4, 9)), 3), (("Relu", (4,)), 4)],
)
def test_temperature_behind_a_normalisation_of_heads(
    product: tuple[str, tuple[int, ...]], preactivation: int
) -> None:
    operator, reads = product
    steps = [
        Step("linear", "MatMul", (0,), 1),
        Step("shape", "Reshape", (1,), 2),
        Step("norm", "LayerNormalization", (2,), 3),
        Step("scale", "Mul", (3,), 4, one_number=True),
        Step("other", "Abs", (0,), 9),
        Step("other", operator, reads, 5),
    ]
    [layer] = find_layers(steps, [5])
    assert layer.preactivation == (preactivation,)
