"""Whether the sources of the campaign over exported networks build what they list."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from zoo.operators import list_operators
from zoo.rows import Row
from zoo.small_configurations import list_configurations, make_configuration
from zoo.trial import try_case


@pytest.mark.parametrize(
    ("name", "exporter", "layers"),
    [
        ("MLPClassifier", "skl2onnx", 3),
        ("MultiTaskLasso", "skl2onnx-double", 1),
        ("KMeans", "skl2onnx", 1),
        ("DecisionTreeRegressor", "skl2onnx", 0),
    ],
)
def test_estimators(name: str, exporter: str, layers: int, tmp_path: Path) -> None:
    pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
    from zoo.sources import scikit_learn

    [case] = [c for c in scikit_learn.list_cases() if (c.name, c.exporter) == (name, exporter)]
    row: Row = try_case(case, tmp_path, lambda stage: None)
    assert (row.outcome, row.layers, row.framework) == ("equal", layers, True), row.message


@dataclass
class Configuration:
    """A configuration that objects to some settings, as those of transformers do."""

    hidden_size: int = 768
    num_attention_heads: int = 12
    depths: tuple[int, ...] = (2, 2, 6)
    hidden_sizes: tuple[int, ...] = (96, 192, 8)
    vocab_size: int = 30000
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.vocab_size < 1000:
            raise ValueError("vocab_size must be larger")


def test_configuration_is_as_small_as_it_may_be() -> None:
    made = make_configuration(Configuration)
    assert made == Configuration(32, 4, depths=[1, 1, 1], hidden_sizes=[16, 32, 16])  # type: ignore[arg-type]


@dataclass
class Backbone:
    """A network upon which others are built."""

    model_type = "backbone"
    hidden_sizes: tuple[int, ...] = (96, 192, 384)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Text:
    """A part of any kind, whose keys of low rank are written out for all heads."""

    model_type = "text"
    kv_lora_rank: int = 512
    num_attention_heads: int = 128
    num_key_value_heads: int = 8

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Composite:
    """A configuration of parts, of which it makes those by default that are not given."""

    sub_configs = {"backbone_config": object, "text_config": object, "missing": object}  # noqa: RUF012
    hidden_size: int = 768
    backbone_config: Any = None
    text_config: Any = None
    missing: Any = None

    def __post_init__(self) -> None:
        self.backbone_config = self.backbone_config or Backbone()
        self.text_config = self.text_config or Text()


def test_parts_of_a_configuration_are_small_and_backbones_then_whole() -> None:
    small, on_whole, whole = (make() for make in list_configurations(Composite))
    text = {"kv_lora_rank": 16, "num_attention_heads": 4, "num_key_value_heads": 4}
    assert (small.hidden_size, small.text_config) == (32, text)
    assert small.backbone_config == {"hidden_sizes": [16, 32, 48]}
    assert (on_whole.hidden_size, on_whole.text_config) == (32, text)
    assert on_whole.backbone_config == asdict(Backbone())
    assert whole == Composite()


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_elements_at_places_of_another_shape(axis: int) -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(5, 7)).astype(np.float32)
    places = rng.integers(-5, 5, (3, 4))
    node = helper.make_node("GatherElements", ["data", "places"], ["y"], axis=axis)
    values = [helper.make_tensor_value_info("data", TensorProto.FLOAT, data.shape)]
    values.append(helper.make_tensor_value_info("places", TensorProto.INT64, places.shape))
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, places.shape)
    model = helper.make_model(helper.make_graph([node], "one", values, [result]))
    evaluator = ReferenceEvaluator(model, new_ops=list_operators(20))
    [y] = evaluator.run(None, {"data": data, "places": places})
    for row, column in np.ndindex(*places.shape):
        place = places[row, column]
        expected = data[place, column] if axis == 0 else data[row, place]
        assert y[row, column] == expected


def test_the_batch_is_named_in_the_structure_of_a_call() -> None:
    torch = pytest.importorskip("torch")
    from zoo.torch_export import _name_batch

    class Gathered(torch.nn.Module):
        def forward(self, *values: Any) -> Any:
            return values[0]

    class Named(torch.nn.Module):
        def forward(self, first: Any, second: Any) -> Any:
            return first

    inputs = {"a": None, "b": None}
    assert _name_batch(Gathered(), "N", inputs) == (({0: "N"}, {0: "N"}),)
    assert _name_batch(Named(), "N", inputs) == ({0: "N"}, {0: "N"})


def test_products_that_contribute_to_an_output_are_counted() -> None:
    torch = pytest.importorskip("torch")
    from zoo.torch_export import count_linear_calls

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(5))
            self.query = torch.nn.Parameter(torch.ones(2, 1, 3, 4))

        def forward(self, x: Any) -> Any:
            first, second, unread, of_weights, of_zeros = self.layers
            unread(x)
            x = second(first(x).relu())
            x = x + of_weights(self.query).mean() + of_zeros(torch.zeros_like(x))
            x = x @ x.mT @ x
            heads = x[:, None]
            # Learned queries with keys of the data.
            return torch.nn.functional.scaled_dot_product_attention(self.query, heads, heads)

    network, x = Network().eval(), torch.rand(2, 3, 4)
    assert count_linear_calls(lambda: network(x), [x]) == 3
