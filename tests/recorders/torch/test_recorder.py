"""Stores recorded from PyTorch, against plain hooks and against dumps of exported networks."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.mnist import Mlp, exported, nn, torch
from support.recorded import write_levels

import cnatool
from cnatool.errors import DataError, UsageError
from cnatool.recorders.torch import Recorder, record

ROWS = {"train": 90, "test": 70}
EVERY = ("sum", "abs_sum", "square_sum", "positive_sum", "nonzero_count", "min", "max")

# What exporters warn of is theirs; what comes out is compared.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{name}")
    for name in ("DeprecationWarning", "FutureWarning", "UserWarning", "torch.jit.TracerWarning")
]


class Resnet(nn.Module):
    """A block with a projection; the nonlinearities write into their inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_bn = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.a, self.a_bn = nn.Conv2d(4, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6)
        self.b, self.b_bn = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.down, self.down_bn = nn.Conv2d(4, 6, 1, 2, bias=False), nn.BatchNorm2d(6)
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.stem_bn(self.stem(x)))
        y = self.b_bn(self.b(self.relu(self.a_bn(self.a(x)))))
        y += self.down_bn(self.down(x))
        return self.fc(self.relu(y).mean(dim=(2, 3)))


class Transformer(nn.Module):
    """Rows of a picture as tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(8, 12)
        layer = partial(nn.TransformerEncoderLayer, 12, 2, 20, batch_first=True)
        self.blocks = nn.ModuleList([layer(), layer(norm_first=True)])
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


class Twice(nn.Module):
    """A module that is called twice, one that gives a tuple, and a functional layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lstm = nn.Linear(8, 8), nn.LSTM(8, 6, batch_first=True)
        self.weight = nn.Parameter(torch.randn(5, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.fc(torch.relu(self.fc(x))))
        return nn.functional.linear(self.lstm(x)[0][:, -1], self.weight)


NETWORKS = {"mlp": partial(Mlp, 64, 24, 16, 5), "resnet": Resnet, "transformer": Transformer}
SAMPLES = {"mlp": (64,), "resnet": (1, 8, 8), "transformer": (8, 8)}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return write_levels(tmp_path / "data", ROWS)


def network(name: str) -> nn.Module:
    torch.manual_seed(4)
    made = NETWORKS[name]()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return made.eval()


def batches(data: Any, size: int = 32) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    return {
        split: [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]
        for split, (x, y) in data.items()
    }


def prepared(name: str, raw: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(raw.reshape(-1, *SAMPLES[name]) / np.float32(255))


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_those_of_the_export(name: str, dynamo: bool, data: Any, tmp_path: Path) -> None:
    net = network(name)
    record(
        net,
        tmp_path / "hooks.zarr",
        batches(data),
        prepare=partial(prepared, name),
        keep="activations",
        weights=True,
    )
    model = exported(net, SAMPLES[name], tmp_path / "model.onnx", dynamo=dynamo)
    cnatool.dump(model, tmp_path / "data", tmp_path / "dump.zarr")
    found = cnatool.compare(tmp_path / "hooks.zarr", tmp_path / "dump.zarr", tolerance=1e-4)
    assert found.same, found.differences
    assert (found.unmatched, found.unmatched2) == ((), ())
    assert found.largest < 1e-4
    hooks, dump = (cnatool.open(tmp_path / f"{n}.zarr") for n in ("hooks", "dump"))
    for one, two in zip(hooks.layers, dump.layers, strict=True):
        assert (one.path, one.output, one.shortcut) == (two.path, two.output, two.shortcut)
    for split in ROWS:
        for one, two in zip(hooks.layers, dump.layers, strict=True):
            sums, sums2 = (
                store.splits[split].statistics("sum")[:][
                    :, store.tensor(layer.preactivation).number
                ]
                for store, layer in ((hooks, one), (dump, two))
            )
            values = hooks.splits[split].activations(one.preactivation)[:]
            largest = np.abs(values.reshape(len(values), -1)).sum(axis=1)
            assert (np.abs(sums - sums2) <= 1e-5 * largest).all(), one.preactivation
    a, b = cnatool.score(hooks), cnatool.score(dump)
    for split in ROWS:
        assert a.splits[split].cna.value == pytest.approx(b.splits[split].cna.value, rel=1e-4)
        assert a.splits[split].beta.mean == pytest.approx(b.splits[split].beta.mean, rel=1e-4)
        assert a.splits[split].loss == pytest.approx(b.splits[split].loss, rel=1e-5)
    for what in ("cna_area", "margin", "cna_margin"):
        assert getattr(a, what).value == pytest.approx(getattr(b, what).value, rel=1e-4)
    if name != "transformer":  # whose attention is no module with weights
        for what in ("l2", "spectral", "parameter_norm"):
            one, two = (getattr(r.baselines, what) for r in (a, b))
            assert one.value == pytest.approx(two.value, rel=1e-4), what
    assert cnatool.verify(tmp_path / "hooks.zarr").faults == ()


def test_unfolded_batch_norm_is_the_same_in_every_convention(data: Any, tmp_path: Path) -> None:
    net = network("resnet")
    record(net, tmp_path / "a.zarr", batches(data), prepare=partial(prepared, "resnet"))
    preserved = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    for name, options in (("folded", {}), ("kept", preserved)):
        model = exported(net, (1, 8, 8), tmp_path / f"{name}.onnx", dynamo=False, **options)
        cnatool.dump(model, tmp_path / "data", tmp_path / f"{name}.zarr")
    folded, kept = (
        cnatool.compare(tmp_path / "a.zarr", tmp_path / f"{name}.zarr", convention="reference")
        for name in ("folded", "kept")
    )
    assert kept.same
    assert [note[:30] for note in kept.notes] == ["CNA-A of the form reference is"]
    assert not folded.same
    assert "a normalisation is folded into them" in folded.notes[1]
    assert {text.split(":")[0] for text in folded.differences} <= {s.name for s in folded.scores}


@pytest.mark.parametrize("keep", ["statistics", "activations"])
def test_statistics_are_those_of_hooks(keep: str, data: Any, tmp_path: Path) -> None:
    net = network("resnet")
    seen: dict[str, list[np.ndarray]] = {}
    for name, module in net.named_children():
        if name != "relu":
            module.register_forward_hook(
                lambda _, __, out, name=name: seen.setdefault(name, []).append(
                    out.detach().numpy().astype(np.float64)
                )
            )
    splits = {"train": batches(data)["train"]}
    for raw, _ in splits["train"]:
        net(prepared("resnet", raw))
    truth = {name: np.concatenate(parts) for name, parts in seen.items()}
    record(
        net,
        tmp_path / "s.h5",
        splits,
        prepare=partial(prepared, "resnet"),
        keep=keep,
        statistics="all",
    )
    store = cnatool.open(tmp_path / "s.h5")
    split = store.splits["train"]
    assert {tensor.name for tensor in store.tensors} == truth.keys()
    for tensor in store.tensors:
        values = truth[tensor.name].reshape(ROWS["train"], -1)
        expected = {
            "sum": values.sum(1),
            "abs_sum": np.abs(values).sum(1),
            "square_sum": (values**2).sum(1),
            "positive_sum": values.clip(min=0).sum(1),
            "nonzero_count": (values != 0).sum(1),
            "min": values.min(1),
            "max": values.max(1),
        }
        for statistic in EVERY:
            off = np.abs(split.statistics(statistic)[:][:, tensor.number] - expected[statistic])
            assert (off <= 1e-5 * expected["abs_sum"]).all(), (tensor.name, statistic)
        if keep == "activations":
            stored = split.activations(tensor.name)[:]
            np.testing.assert_allclose(stored, truth[tensor.name], rtol=1e-4, atol=1e-5)


def test_names_operators_and_depths(data: Any, tmp_path: Path) -> None:
    record(
        network("resnet"), tmp_path / "s.zarr", batches(data), prepare=partial(prepared, "resnet")
    )
    layers = cnatool.open(tmp_path / "s.zarr").layers
    assert [(one.linear, one.preactivation, one.operator, one.path) for one in layers] == [
        ("stem", "stem_bn", "Conv", 1),
        ("a", "a_bn", "Conv", 2),
        ("b", "b_bn", "Conv", 3),
        ("down", "down_bn", "Conv", 2),
        ("fc", "fc", "Gemm", 4),
    ]
    assert [one.shortcut for one in layers] == [False, False, False, True, False]


def test_modules_called_twice_tuples_and_functions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = Twice().eval(), torch.rand(7, 4, 8)
    with Recorder(net, tmp_path / "s.zarr", modules="all", keep="activations") as recorder:
        for rows in x.split(3):
            with recorder.batch("all", inputs=rows.numpy()):
                out = net(rows)
    store = cnatool.open(tmp_path / "s.zarr")
    split = store.splits["all"]
    first = net.fc(x)
    second = net.fc(first.relu())
    hidden, _ = net.lstm(second.relu())
    for name, expected in (
        ("fc#1", first),
        ("fc#2", second),
        ("lstm.0", hidden),
        ("network", hidden[:, -1] @ net.weight.T),
    ):
        np.testing.assert_allclose(
            split.activations(name)[:], expected.detach(), rtol=1e-5, atol=1e-6
        )
    np.testing.assert_array_equal(split.outputs()[-1:], out.detach())
    # h and c of the last step have the samples on their second axis
    assert split.activations("lstm.1.0").shape == (7, 1, 6)


def test_modules_by_name_and_by_type(data: Any, tmp_path: Path) -> None:
    net = network("resnet")
    for number, (modules, expected) in enumerate(
        [
            ("*_bn", ["stem_bn", "a_bn", "b_bn", "down_bn"]),
            (nn.Linear, ["fc"]),
            (["stem", nn.Linear], ["stem", "fc"]),
            ("linear", ["stem", "a", "b", "down", "fc"]),
        ]
    ):
        path = tmp_path / f"{number}.zarr"
        record(net, path, batches(data), prepare=partial(prepared, "resnet"), modules=modules)
        store = cnatool.open(path)
        assert [one.preactivation for one in store.layers] == expected
        assert [one.linear for one in store.layers] == expected


def test_training_goes_on_as_without(tmp_path: Path) -> None:
    x, y = torch.rand(40, 1, 8, 8), torch.randint(0, 5, (40,))

    def trained(recorder: Recorder | None) -> dict[str, torch.Tensor]:
        net = network("resnet").train()
        net.fc = nn.Sequential(nn.Dropout(0.3), net.fc)
        if recorder is not None:
            recorder._network = net
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        torch.manual_seed(1)
        for rows in range(0, 40, 10):
            if recorder is None:
                out = net(x[rows : rows + 10])
            else:
                with recorder.batch("train", labels=y[rows : rows + 10]):
                    out = net(x[rows : rows + 10])
            optimizer.zero_grad()
            nn.functional.cross_entropy(out, y[rows : rows + 10]).backward()
            optimizer.step()
        return net.state_dict()

    plain = trained(None)
    with Recorder(nn.Identity(), tmp_path / "s.zarr") as recorder:
        recorded = trained(recorder)
    for name, value in plain.items():
        assert torch.equal(value, recorded[name]), name


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_layers_are_the_same_in_every_mode(mode: Any, data: Any, tmp_path: Path) -> None:
    net = network("transformer")
    x = prepared("transformer", data["train"][0])
    with mode(), Recorder(net, tmp_path / "s.zarr") as recorder, recorder.batch("all"):
        net(x)
    found = [
        (one.preactivation, one.operator, one.path)
        for one in cnatool.open(tmp_path / "s.zarr").layers
    ]
    assert found[:4] == [
        ("embedding", "MatMul", 1),
        ("blocks.0.self_attn/MatMul", "MatMul", 2),
        ("blocks.0.self_attn.0", "MatMul", 3),
        ("blocks.0.linear1", "MatMul", 4),
    ]
    assert len(found) == 10


def test_mixed_precision(data: Any, tmp_path: Path) -> None:
    net = network("transformer")
    x = prepared("transformer", data["train"][0])
    with Recorder(net, tmp_path / "s.zarr", keep="activations") as recorder:
        for _ in range(2):
            with (
                recorder.batch("all", inputs=data["train"][0]),
                torch.autocast("cpu", torch.bfloat16),
                torch.no_grad(),
            ):
                net(x)
    store = cnatool.open(tmp_path / "s.zarr")
    assert len(store.layers) == 10
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        expected = net.embedding(x)
    assert expected.dtype == torch.bfloat16
    stored = store.splits["all"].activations("embedding")[90:]
    np.testing.assert_array_equal(stored, expected.float())
    assert store.tensor("embedding").stored == "bfloat16"
    assert cnatool.verify(tmp_path / "s.zarr").faults == ()


class Scattered(nn.DataParallel):
    """As on several devices: replicas, each in a thread of its own, each with some samples."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = x.tensor_split(3)
        results: dict[int, torch.Tensor] = {}
        for number, part in enumerate(parts):
            replica = _replicated(self.module)
            thread = threading.Thread(
                target=lambda n=number, r=replica, p=part: results.update({n: r(p).detach()})
            )
            thread.start()
            thread.join()
        return torch.cat([results[number] for number in range(3)])


def _replicated(module: nn.Module) -> nn.Module:
    """Do what ``torch.nn.parallel.replicate`` does, on the CPU."""
    replica = module._replicate_for_data_parallel()
    for name, child in module._modules.items():
        replica._modules[name] = _replicated(child)
    for name, parameter in module._parameters.items():
        setattr(replica, name, None if parameter is None else parameter.detach())
    return replica


def test_replicas(data: Any, tmp_path: Path) -> None:
    net = network("transformer")
    x = prepared("transformer", data["train"][0])
    for name, called in (("one", net), ("three", Scattered(net))):
        with Recorder(called, tmp_path / f"{name}.zarr", keep="activations") as recorder:
            for rows in x.split(40):
                with recorder.batch("all"):
                    called(rows)
    found = cnatool.compare(tmp_path / "one.zarr", tmp_path / "three.zarr", tolerance=1e-5)
    assert found.same, found.differences
    assert found.matched == "name"


def test_rows_that_merge_samples_are_refused(tmp_path: Path) -> None:
    class Merged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.fc(x.flatten(0, 1))).unflatten(0, (-1, 4)).sum(1)

    net = Merged()
    for modules in ("preactivation", "fc"):
        with (
            pytest.raises(DataError, match="has no axis for samples only"),
            Recorder(net, tmp_path / "s.zarr", modules=modules) as recorder,
            recorder.batch("all"),
        ):
            net(torch.rand(6, 4, 8))
    assert not (tmp_path / "s.zarr").exists()


def test_other_errors(tmp_path: Path) -> None:
    net, x = Mlp(8, 6, 3), torch.rand(5, 8)
    path = tmp_path / "s.zarr"
    with pytest.raises(UsageError, match="keep='all': use 'statistics' or 'activations'"):
        Recorder(net, path, keep="all")
    with pytest.raises(UsageError, match="a compiled network hides its steps"):
        Recorder(torch.compile(net), path)
    with pytest.raises(UsageError, match="statistics: 'mean' is none of sum, "):
        Recorder(net, path, statistics="mean")
    with (
        pytest.raises(UsageError, match="no batch was recorded, so there is no store"),
        Recorder(net, path),
    ):
        pass
    with (
        pytest.raises(UsageError, match="modules: 'conv\\*' matches no module that runs"),
        Recorder(net, path, modules="conv*") as recorder,
        recorder.batch("all"),
    ):
        net(x)
    with (
        pytest.raises(DataError, match="the network was not called within this batch"),
        Recorder(net, path) as recorder,
        recorder.batch("all"),
    ):
        pass
    with (
        pytest.raises(DataError, match="the network was called twice within one batch"),
        Recorder(net, path) as recorder,
        recorder.batch("all"),
    ):
        net(net(x)[:, :1].expand(-1, 8))
    # Whatever went wrong, the network is left without hooks.
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
