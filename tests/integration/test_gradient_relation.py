"""The example on the gradient of β: its β is cnatool's, and its gradient the sum over the units."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import helper, numpy_helper

import cnatool

torch = pytest.importorskip("torch", reason="torch is not installed")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def example() -> Any:
    pytest.importorskip("altair", reason="altair is not installed")
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        import gradient_relation
    finally:
        sys.path.pop(0)
    return gradient_relation


@pytest.fixture
def network(example: Any) -> Any:
    torch.manual_seed(0)
    return example.Perceptron(inputs=6, width=5, depth=3).double()


@pytest.fixture
def samples() -> Any:
    return torch.from_numpy(np.random.default_rng(0).random((9, 6)))


def score_beta(network: Any, samples: Any, folder: Path, **overrides: object) -> np.ndarray:
    """Compute β of each sample as cnatool does, from a store of the network in double precision."""
    nodes, weights = [], []
    for number, layer in enumerate(network.layers):
        for name, values in (("w", layer.weight), ("b", layer.bias)):
            array = values.detach().numpy()
            weights.append(numpy_helper.from_array(array, f"{name}{number}"))
        inputs = [f"r{number}" if number else "x", f"w{number}", f"b{number}"]
        nodes.append(helper.make_node("Gemm", inputs, [f"z{number}"], transB=1))
        nodes.append(helper.make_node("Relu", [f"z{number}"], [f"r{number + 1}"]))
    last = len(network.layers) - 1
    double = onnx.TensorProto.DOUBLE
    graph = helper.make_graph(
        nodes[:-1],
        "perceptron",
        [helper.make_tensor_value_info("x", double, ["n", samples.shape[1]])],
        [helper.make_tensor_value_info(f"z{last}", double, ["n", 10])],
        weights,
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), folder / "net.onnx")
    np.savez(folder / "test.npz", x=samples.numpy(), y=np.arange(len(samples)))
    store = cnatool.dump(
        folder / "net.onnx", folder / "test.npz", folder / "net.zarr", overwrite=True
    )
    return cnatool.score_samples(store, overrides={"aggregate": "mean", **overrides})[
        "beta"
    ].to_numpy()


def test_beta_is_that_of_a_store(example: Any, network: Any, samples: Any, tmp_path: Path) -> None:
    for form, output in (("hidden", False), ("all", True)):
        found = example.beta(network.preactivations(samples), form).detach().numpy()
        stored = score_beta(network, samples, tmp_path, include_output=output)
        np.testing.assert_allclose(found, stored, rtol=1e-12, atol=1e-15)
    sums = [z.mean(dim=1) for z in network.preactivations(samples)[:-1]]
    sums.append(network(samples).sum(dim=1))
    slopes = np.polyfit(range(1, 5), torch.stack(sums).detach().numpy(), 1)[0]
    script = example.beta(network.preactivations(samples), "script").detach().numpy()
    np.testing.assert_allclose(script, slopes, rtol=1e-9, atol=1e-12)


def test_the_gradient_is_that_of_differences_of_stores(
    example: Any, network: Any, samples: Any, tmp_path: Path
) -> None:
    weights = list(network.parameters())
    values = example.beta(network.preactivations(samples), "hidden").mean()
    gradient = torch.autograd.grad(values, weights, allow_unused=True, materialize_grads=True)
    step = 1e-5
    direction = [torch.randn_like(w) for w in weights]
    means = []
    for sign in (1, -2):  # to w + h v, then to w − h v
        with torch.no_grad():
            for weight, along in zip(weights, direction, strict=True):
                weight += sign * step * along
        means.append(score_beta(network, samples, tmp_path).mean())
    slope = sum((g * v).sum() for g, v in zip(gradient, direction, strict=True))
    assert (means[0] - means[1]) / (2 * step) == pytest.approx(float(slope), rel=1e-6)


def test_the_gradient_is_the_sum_over_the_units(example: Any, network: Any, samples: Any) -> None:
    """∇β(x) = Σ_l (c_l / n_l) Σ_k ∇z_l^k(x), of the parameters and of x."""
    x = samples[:1].clone().requires_grad_()
    wanted = [*network.parameters(), x]

    def gradient(value: Any) -> Any:
        options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        parts = torch.autograd.grad(value, wanted, **options)
        return torch.cat([part.flatten() for part in parts])

    layers = network.preactivations(x)
    for form, used in (("hidden", layers[:-1]), ("all", layers)):
        depths = np.arange(1, len(used) + 1)
        factors = (depths - depths.mean()) / ((depths - depths.mean()) ** 2).sum()
        formula = sum(
            c / z.shape[1] * gradient(z[0, k])
            for c, z in zip(factors, used, strict=True)
            for k in range(z.shape[1])
        )
        found = gradient(example.beta(layers, form)[0])
        assert torch.allclose(found, formula, rtol=1e-10, atol=1e-13)


def test_cosines_of_a_batch(example: Any, network: Any, samples: Any) -> None:
    labels = torch.arange(9)
    rows = pl.DataFrame(list(example.measure(network, samples, labels, torch.Generator())))
    assert rows["cosine"].is_between(-1 - 1e-6, 1 + 1e-6).all()
    same = rows.filter(beta="output", other="output")["cosine"].to_list()
    assert same == pytest.approx([1, 1])
    # Of the loss and of what has the opposite gradient of the loss.
    margins = example.margin(network(samples), labels).detach().numpy()
    scores = network(samples).detach().numpy()
    for row, label in enumerate(labels):
        expected = scores[row, label] - np.delete(scores[row], label).max()
        assert margins[row] == pytest.approx(expected)


def test_the_page_has_the_numbers_of_the_file(example: Any) -> None:
    summary = pl.read_csv(ROOT / "examples/gradient_relation.csv")
    page = (ROOT / "docs/gradients.md").read_text("utf-8")
    for variable in ("parameters", "inputs"):
        assert example.write_table(summary, variable) in page
