"""Shortcuts of an exported network and of the same network watched in its framework."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from cnatool.backend.graph.graph import load_graph
from cnatool.backend.graph.layers import find_layers

torch = pytest.importorskip("torch")
nn = torch.nn
rule = pytest.importorskip("cnatool.recorders.layer_rule")
torch_trace = pytest.importorskip("cnatool.recorders.torch.trace")


def conv(inputs: int, outputs: int, kernel: int = 3, **options: object) -> nn.Module:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


class Net(nn.Module):
    """Modules by name, and a function that applies them."""

    def __init__(self, forward: Callable[..., torch.Tensor], **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
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
CASES = {
    "preactivation": (
        lambda: Net(
            preactivation,
            stem=conv(3, 4),
            bn1=nn.BatchNorm2d(4),
            a1=conv(4, 4),
            a2=conv(4, 4),
            bn2=nn.BatchNorm2d(4),
            projection=conv(4, 6, 1),
            b1=conv(4, 6),
            b2=conv(6, 6),
            fc=nn.Linear(6 * 64, 5),
        ),
        IMAGE,
        {"projection"},
    ),
    "two normalisations": (
        lambda: Net(
            two_normalisations,
            stem=conv(3, 4),
            bn1=nn.BatchNorm2d(4),
            bn2=nn.BatchNorm2d(4),
            a1=conv(4, 4),
            a2=conv(4, 6),
            projection=conv(4, 6, 1),
        ),
        IMAGE,
        {"projection"},
    ),
    "linear bottlenecks": (
        lambda: Net(
            linear_bottlenecks,
            first=conv(3, 4),
            expand1=conv(4, 8, 1),
            project1=conv(8, 4, 1),
            expand2=conv(4, 8, 1),
            deep2=conv(8, 8, 3, groups=8),
            project2=conv(8, 4, 1),
            head=conv(4, 5, 1),
        ),
        IMAGE,
        set(),
    ),
    "transformer": (
        lambda: Net(
            transformer,
            patch=nn.Conv2d(3, 8, 4, stride=4),
            position=nn.Embedding(4, 8),
            norm1=nn.LayerNorm(8),
            norm2=nn.LayerNorm(8),
            **{name: nn.Linear(8, 8) for name in ("q", "k", "v", "o", "mlp1", "mlp2")},
            head=nn.Linear(8, 5),
        ),
        IMAGE,
        set(),
    ),
    "pooled, then projected": (
        lambda: Net(
            pooled_projection,
            stem=conv(3, 4),
            a1=conv(4, 4),
            a2=conv(4, 6, stride=2),
            bn=nn.BatchNorm2d(6),
            bn2=nn.BatchNorm2d(6),
            projection=conv(4, 6, 1),
        ),
        IMAGE,
        {"projection"},
    ),
    "projected, then pooled": (
        lambda: Net(
            pooled_behind,
            stem=conv(3, 4),
            a1=conv(4, 4),
            a2=conv(4, 6, stride=2),
            projection=conv(4, 6, 1),
        ),
        IMAGE,
        {"projection"},
    ),
    "two on the bypass": (
        lambda: Net(
            two_on_the_bypass,
            stem=conv(3, 4),
            a1=conv(4, 4),
            a2=conv(4, 4),
            a3=conv(4, 6),
            deep=conv(4, 4, groups=4),
            bn=nn.BatchNorm2d(4),
            point=conv(4, 6, 1),
        ),
        IMAGE,
        {"deep", "point"},
    ),
    "equally long": (
        lambda: Net(
            equally_long,
            stem=conv(3, 4),
            a=conv(4, 4),
            b=conv(4, 4, 1),
            **{name: conv(4, 4) for name in ("c1", "c2", "d1", "d2")},
        ),
        IMAGE,
        set(),
    ),
    "sum of sums": (
        lambda: Net(
            sum_of_sums,
            stem=conv(3, 4),
            projection=conv(4, 4, 1),
            **{name: conv(4, 4) for name in ("a1", "a2", "b1", "b2")},
        ),
        IMAGE,
        {"projection"},
    ),
    "gated": (
        lambda: Net(gated, a1=conv(4, 4), a2=conv(4, 4), gate=conv(4, 4, 1), carry=conv(4, 4, 1)),
        WIDE,
        set(),
    ),
    "squeeze and excite": (
        lambda: Net(
            squeeze_and_excite,
            stem=conv(3, 4),
            projection=conv(4, 6, 1),
            a1=conv(4, 4),
            a2=conv(4, 6),
            down=conv(6, 2, 1),
            up=conv(2, 6, 1),
        ),
        IMAGE,
        {"projection"},
    ),
    "nested": (
        lambda: Net(
            nested,
            stem=conv(3, 4),
            outside=conv(4, 4, 1),
            inside=conv(4, 4, 1),
            **{name: conv(4, 4) for name in ("a1", "a2", "a3", "a4")},
        ),
        IMAGE,
        {"outside", "inside"},
    ),
    "lateral": (
        lambda: Net(
            lateral,
            fine=conv(3, 4),
            coarse=conv(4, 4, stride=2),
            top=conv(4, 6, 1),
            lateral=conv(4, 6, 1),
            out=conv(6, 5),
        ),
        IMAGE,
        {"lateral"},
    ),
    "recurrence": (
        lambda: Net(recurrence, enter=nn.Linear(5, 4), again=nn.Linear(4, 4), out=nn.Linear(4, 2)),
        SERIES,
        set(),
    ),
    "concatenated": (
        lambda: Net(concatenated, stem=conv(3, 4), a=conv(4, 4), b=conv(8, 4), out=conv(12, 5, 1)),
        IMAGE,
        set(),
    ),
    "also read by the main path": (
        lambda: Net(
            also_read,
            projection=conv(3, 4, 1),
            bn=nn.BatchNorm2d(4),
            b1=conv(4, 4),
            b2=conv(4, 4),
        ),
        IMAGE,
        set(),
    ),
}


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_shortcuts(case: str, fold: bool, tmp_path: Path) -> None:
    build, shape, expected = CASES[case]
    torch.manual_seed(0)
    net, x = build().eval(), torch.rand(4, *shape)
    trace, _ = torch_trace.traced(net, (x,), {}, 4)
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
