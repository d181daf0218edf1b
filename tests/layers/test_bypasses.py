"""Shortcuts of an exported network and of the same network watched in its framework."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnatool.backend.graph.graph import load_graph
from cnatool.backend.graph.layers import find_layers

torch = pytest.importorskip("torch")
nn = torch.nn


def module(how: object) -> nn.Module:
    """Make a convolution of channels and a kernel, a BatchNorm of channels, or what is called."""
    if isinstance(how, int):
        return nn.BatchNorm2d(how)
    return conv(*how) if isinstance(how, tuple) else how()


def conv(inputs: int, outputs: int, kernel: int = 3, **options: object) -> nn.Module:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


class Net(nn.Module):
    """Modules by name, and a function that applies them."""

    def __init__(self, forward: Callable[..., torch.Tensor], **modules: object) -> None:
        super().__init__()
        for name, how in modules.items():
            setattr(self, name, module(how))
        self._forward = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(self, x)


relu = torch.relu


def preactivation(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = net.stem(x)
    h = relu(net.bn1(x))
    x = x + net.a2(relu(net.a1(h)))  # identity bypass from the stem
    h = relu(net.bn2(x))
    x = net.projection(h) + net.b2(relu(net.b1(h)))
    return net.fc(relu(x).flatten(1))


def two_normalisations(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = net.stem(x)
    main = net.a2(relu(net.a1(relu(net.bn1(x)))))
    return main + net.projection(relu(net.bn2(x)))


def linear_bottlenecks(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = net.first(x)
    x = x + net.project1(relu(net.expand1(x)))
    x = x + net.project2(relu(net.deep2(relu(net.expand2(x)))))
    return net.head(x)


def transformer(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = net.patch(x).flatten(2).transpose(1, 2) + net.position.weight
    h = net.norm1(x)
    q, k, v = net.q(h), net.k(h), net.v(h)
    x = x + net.o(torch.softmax(q @ k.transpose(1, 2), -1) @ v)
    x = x + net.mlp2(nn.functional.gelu(net.mlp1(net.norm2(x))))
    return net.head(x.mean(1))


def pooled_projection(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = relu(net.stem(x))
    main = net.bn(net.a2(relu(net.a1(x))))
    return relu(main + net.bn2(net.projection(nn.functional.avg_pool2d(x, 2))))


def pooled_behind(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = relu(net.stem(x))
    return net.a2(relu(net.a1(x))) - nn.functional.avg_pool2d(net.projection(x), 2)


def two_on_the_bypass(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = relu(net.stem(x))
    main = net.a3(relu(net.a2(relu(net.a1(x)))))
    return main + net.point(net.bn(net.deep(x)))


def equally_long(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = relu(net.stem(x))
    x = relu(net.a(x) + net.b(x) + x)
    return net.c2(relu(net.c1(x))) + net.d2(relu(net.d1(x)))


def sum_of_sums(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = relu(net.stem(x))
    return (x + net.projection(x)) + (net.a2(relu(net.a1(x))) + net.b2(relu(net.b1(x))))


def gated(net: Net, x: torch.Tensor) -> torch.Tensor:
    h = net.a2(relu(net.a1(x)))
    gate = torch.sigmoid(net.gate(x))
    return gate * h + (1 - gate) * net.carry(x)


def squeeze_and_excite(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = relu(net.stem(x))
    h = net.a2(relu(net.a1(x)))
    squeezed = net.up(relu(net.down(h.mean((2, 3), keepdim=True))))
    return relu(net.projection(x) + h * torch.sigmoid(squeezed))


def nested(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = relu(net.stem(x))
    inner = relu(net.a1(x))
    inner = relu(net.inside(inner) + net.a3(relu(net.a2(inner))))
    return net.outside(x) + net.a4(inner)


def lateral(net: Net, x: torch.Tensor) -> torch.Tensor:
    fine = relu(net.fine(x))
    coarse = net.top(relu(net.coarse(fine)))
    return net.out(net.lateral(fine) + nn.functional.interpolate(coarse, scale_factor=2))


def recurrence(net: Net, x: torch.Tensor) -> torch.Tensor:
    state = torch.tanh(net.enter(x[:, 0]))
    for step in (1, 2):
        state = torch.tanh(net.enter(x[:, step]) + net.again(state))
    return net.out(state)


def concatenated(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = net.stem(x)
    x = torch.cat([x, net.a(relu(x))], 1)
    x = torch.cat([x, net.b(relu(x))], 1)
    return net.out(relu(x))


def also_read(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = net.projection(x)
    return x + net.b2(relu(net.b1(relu(net.bn(x)))))


IMAGE, WIDE, SERIES = (3, 8, 8), (4, 8, 8), (3, 5)
PLAIN, POINT, WIDER = (4, 4), (4, 4, 1), (4, 6)
# Networks, the shape of a sample, the layers that are shortcuts, and the modules.
CASES: list[tuple[Callable[..., torch.Tensor], tuple[int, ...], set[str], dict[str, object]]] = [
    (
        preactivation,
        IMAGE,
        {"projection"},
        {"stem": (3, 4), "bn1": 4, "a1": PLAIN, "a2": PLAIN, "bn2": 4, "projection": (4, 6, 1)}
        | {"b1": WIDER, "b2": (6, 6), "fc": lambda: nn.Linear(6 * 64, 5)},
    ),
    (
        two_normalisations,
        IMAGE,
        {"projection"},
        {"stem": (3, 4), "bn1": 4, "bn2": 4, "a1": PLAIN, "a2": WIDER, "projection": (4, 6, 1)},
    ),
    (
        linear_bottlenecks,
        IMAGE,
        set(),
        {"first": (3, 4), "expand1": (4, 8, 1), "project1": (8, 4, 1), "expand2": (4, 8, 1)}
        | {"deep2": lambda: conv(8, 8, groups=8), "project2": (8, 4, 1), "head": (4, 5, 1)},
    ),
    (
        transformer,
        IMAGE,
        set(),
        {"patch": lambda: nn.Conv2d(3, 8, 4, stride=4), "position": lambda: nn.Embedding(4, 8)}
        | dict.fromkeys(("norm1", "norm2"), lambda: nn.LayerNorm(8))
        | dict.fromkeys(("q", "k", "v", "o", "mlp1", "mlp2"), lambda: nn.Linear(8, 8))
        | {"head": lambda: nn.Linear(8, 5)},
    ),
    (
        pooled_projection,
        IMAGE,
        {"projection"},
        {"stem": (3, 4), "a1": PLAIN, "a2": lambda: conv(4, 6, stride=2), "bn": 6, "bn2": 6}
        | {"projection": (4, 6, 1)},
    ),
    (
        pooled_behind,
        IMAGE,
        {"projection"},
        {"stem": (3, 4), "a1": PLAIN, "a2": lambda: conv(4, 6, stride=2), "projection": (4, 6, 1)},
    ),
    (
        two_on_the_bypass,
        IMAGE,
        {"deep", "point"},
        {"stem": (3, 4), "a1": PLAIN, "a2": PLAIN, "a3": WIDER, "bn": 4, "point": (4, 6, 1)}
        | {"deep": lambda: conv(4, 4, groups=4)},
    ),
    (
        equally_long,
        IMAGE,
        set(),
        {"stem": (3, 4), "b": POINT} | dict.fromkeys(("a", "c1", "c2", "d1", "d2"), PLAIN),
    ),
    (
        sum_of_sums,
        IMAGE,
        {"projection"},
        {"stem": (3, 4), "projection": POINT} | dict.fromkeys(("a1", "a2", "b1", "b2"), PLAIN),
    ),
    (gated, WIDE, set(), {"a1": PLAIN, "a2": PLAIN, "gate": POINT, "carry": POINT}),
    (
        squeeze_and_excite,
        IMAGE,
        {"projection"},
        {"stem": (3, 4), "projection": (4, 6, 1), "a1": PLAIN, "a2": WIDER, "down": (6, 2, 1)}
        | {"up": (2, 6, 1)},
    ),
    (
        nested,
        IMAGE,
        {"outside", "inside"},
        {"stem": (3, 4), "outside": POINT, "inside": POINT}
        | dict.fromkeys(("a1", "a2", "a3", "a4"), PLAIN),
    ),
    (
        lateral,
        IMAGE,
        {"lateral"},
        {"fine": (3, 4), "coarse": lambda: conv(4, 4, stride=2), "top": (4, 6, 1)}
        | {"lateral": (4, 6, 1), "out": (6, 5)},
    ),
    (
        recurrence,
        SERIES,
        set(),
        {"enter": lambda: nn.Linear(5, 4), "again": lambda: nn.Linear(4, 4)}
        | {"out": lambda: nn.Linear(4, 2)},
    ),
    (concatenated, IMAGE, set(), {"stem": (3, 4), "a": PLAIN, "b": (8, 4), "out": (12, 5, 1)}),
    (also_read, IMAGE, set(), {"projection": (3, 4, 1), "bn": 4, "b1": PLAIN, "b2": PLAIN}),
]


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].__name__)
def test_shortcuts(case: Any, fold: bool, tmp_path: Path) -> None:
    from cnatool.recorders import layer_rule as rule
    from cnatool.recorders.torch import trace as torch_trace

    forward, shape, expected, modules = case
    torch.manual_seed(0)
    net, x = Net(forward, **modules).eval(), torch.rand(4, *shape)
    trace, _ = torch_trace.trace_network(net, (x,), {}, 4)
    watched = rule.find_layers(trace.steps, trace.outputs.values())
    names = [
        next(place.module for made in layer.linear for place in trace.values[made].places)
        for layer in watched
    ]
    assert {n for n, layer in zip(names, watched, strict=True) if layer.shortcut} == expected
    mode = torch.onnx.TrainingMode.EVAL if fold else torch.onnx.TrainingMode.PRESERVE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (x,),
            str(tmp_path / "model.onnx"),
            dynamo=False,
            training=mode,
            do_constant_folding=fold,
            dynamic_axes={"x": {0: "n"}},
            input_names=["x"],
        )
    layers = find_layers(load_graph(tmp_path / "model.onnx")).layers
    assert len(layers) == len(names)
    assert {n for n, r in zip(names, layers, strict=True) if r.shortcut} == expected
