"""How people call their networks: the recorder takes it as it is, and changes nothing."""

from __future__ import annotations

import contextlib
import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.mnist import nn, torch

import cnatool
from cnatool.errors import DataError, UsageError
from cnatool.recorders.torch import Recorder, record
from cnatool.recorders.torch.checkpoints import Checkpoints

functional = nn.functional


class Net(nn.Module):
    """Two layers; its arguments come in every form."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(
        self,
        x: Any,
        temperature: Any = 1.0,
        *,
        other: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> Any:
        x = sum(x.values()) if isinstance(x, dict) else x
        hidden = torch.relu(self.a(x if other is None else x + other))
        scores = self.b(hidden) / temperature
        if labels is None:
            return scores
        loss = functional.cross_entropy(scores, labels)
        return {"loss": loss, "logits": scores, "hidden": (hidden,)}


class Dropping(nn.Module):
    """Everything that draws random numbers or keeps running means, some of it shared."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.again = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.norm, self.relu, self.drop = nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout(0.5)
        self.same_norm = self.norm
        self.block = nn.TransformerEncoderLayer(48, 2, 16, batch_first=True)
        self.fc = nn.utils.parametrizations.spectral_norm(nn.Linear(384, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(self.relu(self.norm(self.conv(x))))
        x = self.relu(self.same_norm(self.again(x)))
        x = x * (0.5 + random.random()) + np.random.random()  # noqa: NPY002
        return self.fc(self.block(x.reshape(len(x), 8, 48)).reshape(len(x), -1))


def fed(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def set_weight(module: Any, weight: torch.Tensor) -> None:
    parametrized = nn.utils.parametrize.is_parametrized(module)
    module.weight = weight if parametrized else nn.Parameter(weight)


def sums(path: Path, split: str = "test") -> dict[str, np.ndarray]:
    store = cnatool.open(path)
    array = store.splits[split].statistics("sum")[:]
    return {tensor.name: array[:, tensor.number] for tensor in store.tensors}


@pytest.mark.parametrize(
    ("args", "kwargs", "inputs"),
    [
        ((fed(5, 4),), {}, ["input"]),
        ((), {"x": fed(5, 4), "other": fed(5, 4)}, ["x", "other"]),
        (({"left": fed(5, 4), "right": fed(5, 4)},), {}, ["input.left", "input.right"]),
        ((), {"x": {"left": fed(5, 4)}}, ["x.left"]),
        ((fed(5, 4), torch.tensor(2.0)), {}, ["input"]),
        ((fed(5, 4), fed(1)), {}, ["input"]),
        ((fed(3, 4), fed(3)), {}, ["input"]),
    ],
)
def test_arguments_of_every_form(args: Any, kwargs: Any, inputs: Any, tmp_path: Path) -> None:
    net = Net()
    with Recorder(net, tmp_path / "net.zarr") as recorder, torch.no_grad(), recorder.batch("test"):
        found = net(*args, **kwargs)
    store = cnatool.open(tmp_path / "net.zarr")
    assert [one.name for one in store.record.inputs] == inputs
    assert [layer.linear for layer in store.layers] == ["a", "b"]
    np.testing.assert_allclose(
        store.splits["test"].outputs(0)[:], found.numpy(), rtol=1e-6, atol=1e-6
    )


def test_a_loss_beside_the_scores(tmp_path: Path) -> None:
    net, labels = Net(), torch.tensor([0, 1, 2, 0, 1])
    with Recorder(net, tmp_path / "net.zarr") as recorder, recorder.batch("test", labels=labels):
        result = net(fed(5, 4), labels=labels)
    assert recorder.left_out == {"output loss": "its result has no axis for samples only"}
    store = cnatool.open(tmp_path / "net.zarr")
    np.testing.assert_array_equal(
        store.splits["test"].outputs(0)[:], result["logits"].detach().numpy()
    )
    assert len(store.record.outputs) == 2


class Loss(Net):
    def forward(self, x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return super().forward(x).mean()


def test_an_output_without_samples_is_refused(tmp_path: Path) -> None:
    net = Loss()
    with pytest.raises(DataError, match="no output of the network has a row for each sample"):
        record(net, tmp_path / "net.zarr", {"test": [(fed(5, 4), None)]})
    assert not (tmp_path / "net.zarr").exists()


def test_samples_on_another_axis(tmp_path: Path) -> None:
    net, raw = Net(), fed(5, 7, 4)
    with (
        Recorder(net, tmp_path / "net.zarr") as recorder,
        torch.no_grad(),
        recorder.batch("test", inputs=raw),
    ):
        result = net(raw.transpose(0, 1))
    found = cnatool.open(tmp_path / "net.zarr").splits["test"].outputs(0)[:]
    np.testing.assert_array_equal(found, result.transpose(0, 1).numpy())


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block, self.fc = (
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
            nn.Linear(8, 3),
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.fc(self.block(x, mask).mean(1))


def test_a_mask_as_long_as_the_batch(tmp_path: Path) -> None:
    net, mask = Masked().eval(), nn.Transformer.generate_square_subsequent_mask(6)
    with Recorder(net, tmp_path / "net.zarr") as recorder, torch.no_grad():
        for rows in (6, 2):
            with recorder.batch("test"):
                net(fed(6, 6, 8)[:rows], mask)
    store = cnatool.open(tmp_path / "net.zarr")
    assert [one.name for one in store.record.inputs] == ["input"]
    assert len(store.splits["test"]) == 8
    found = sums(tmp_path / "net.zarr")
    for name, column in found.items():
        np.testing.assert_allclose(column[6:], column[:2], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("keep", ["statistics", "activations"])
@pytest.mark.parametrize("sizes", [(5, 1), (1, 5), (1, 1, 2)])
def test_batches_of_one(sizes: Any, keep: str, mode: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = Masked().eval(), fed(sum(sizes), 6, 8)
    with Recorder(net, tmp_path / "net.zarr", keep=keep) as recorder, mode():
        for part in torch.split(x, list(sizes)):
            with recorder.batch("test"):
                net(part)
    record(net, tmp_path / "plain.zarr", {"test": [(x, None)]})
    found, expected = (sums(tmp_path / f"{name}.zarr") for name in ("net", "plain"))
    assert list(found) == list(expected)
    for name, column in expected.items():
        np.testing.assert_allclose(found[name], column, rtol=1e-5, atol=1e-5, err_msg=name)


MODES = {
    "train": contextlib.nullcontext,
    "eval": contextlib.nullcontext,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
}


@pytest.mark.parametrize("first", MODES)
@pytest.mark.parametrize("second", ["eval", "inference"])
def test_modes_change_between_batches(first: str, second: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = Masked(), fed(5, 6, 8)
    with Recorder(net, tmp_path / "net.zarr") as recorder:
        for split, mode in (("train", first), ("test", second)):
            net.train(mode == "train")
            with MODES[mode](), recorder.batch(split):
                net(x)
    record(net, tmp_path / "plain.zarr", {"test": [(x, None)]})
    found, expected = (sums(tmp_path / f"{name}.zarr") for name in ("net", "plain"))
    assert found.keys() == expected.keys()
    for name, column in expected.items():
        np.testing.assert_allclose(found[name], column, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("keep", ["statistics", "activations"])
def test_a_training_is_the_same_to_the_last_bit(keep: str, tmp_path: Path) -> None:
    def trained(path: Path | None) -> Any:
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        net = Dropping()
        optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
        held = (
            contextlib.nullcontext()
            if path is None
            else Recorder(net, path, modules="all", keep=keep, statistics="all", weights=True)
        )
        with held as recorder:
            for rows in (8, 8, 8, 3):
                x, y = torch.rand(rows, 1, 8, 8), torch.randint(0, 5, (rows,))
                batch = recorder.batch("train", labels=y) if recorder else contextlib.nullcontext()
                with batch:
                    scores = net(x)
                optimizer.zero_grad()
                functional.cross_entropy(scores, y).backward()
                optimizer.step()
        assert hooks(net) == 0
        numbers = torch.rand(4), random.random(), np.random.random(4)  # noqa: NPY002
        return net.state_dict(), numbers

    state, numbers = trained(None)
    recorded, recorded_numbers = trained(tmp_path / "net.zarr")
    for name, value in state.items():
        assert torch.equal(value, recorded[name]), name
    assert torch.equal(numbers[0], recorded_numbers[0])
    assert numbers[1] == recorded_numbers[1]
    np.testing.assert_array_equal(numbers[2], recorded_numbers[2])


def test_shared_buffers_stay(tmp_path: Path) -> None:
    norm = nn.BatchNorm1d(8)
    net = nn.Sequential(nn.Linear(4, 8), norm, nn.ReLU(), nn.Linear(8, 8), norm, nn.Linear(8, 3))
    other, held = copy.deepcopy(net), norm.running_mean
    with Recorder(net, tmp_path / "net.zarr") as recorder, recorder.batch("train"):
        net(fed(5, 4))
    other(fed(5, 4))
    assert norm.running_mean is held
    for name, value in other.state_dict().items():
        assert torch.equal(value, net.state_dict()[name]), name


def test_recorders_of_one_network_and_of_a_part(tmp_path: Path) -> None:
    part = Masked()
    net = nn.Sequential(part, nn.ReLU(), nn.Linear(3, 3)).eval()
    paths = [tmp_path / f"{name}.zarr" for name in ("one", "two", "part")]
    with contextlib.ExitStack() as held:
        networks = zip((net, net, part), paths, strict=True)
        recorders = [held.enter_context(Recorder(n, path)) for n, path in networks]
        for rows in (5, 3):
            with contextlib.ExitStack() as batches:
                for recorder in recorders:
                    batches.enter_context(recorder.batch("test"))
                net(fed(rows, 6, 8))
    assert hooks(net) == 0
    record(net, tmp_path / "plain.zarr", {"test": [(fed(rows, 6, 8), None) for rows in (5, 3)]})
    for path in paths[:2]:
        assert cnatool.compare(path, tmp_path / "plain.zarr").same
    whole = sums(paths[0])
    for name, column in sums(paths[2]).items():
        np.testing.assert_array_equal(column, whole[f"0.{name}"])


def test_contexts_that_overlap(tmp_path: Path) -> None:
    net, other, x = Masked().eval(), Masked().eval(), fed(5, 6, 8)
    first, second = (Recorder(n, tmp_path / f"{i}.zarr") for i, n in enumerate((net, other)))
    with torch.no_grad():
        with contextlib.ExitStack() as held:
            held.enter_context(first)
            with first.batch("test"):
                net(x)
            later = contextlib.ExitStack()
            later.enter_context(second)
            with second.batch("test"):
                other(x)
        with later, second.batch("test"):
            other(x)
    assert torch.backends.mha.get_fastpath_enabled()
    assert len(cnatool.open(tmp_path / "1.zarr").splits["test"]) == 10


def test_what_prepare_gives_is_what_the_network_is_called_with(tmp_path: Path) -> None:
    net, x = Net().eval(), fed(5, 4)
    forms = {
        "tuple": lambda raw: (raw, 2.0 * torch.ones(5, 1)),
        "mapping": lambda raw: {"x": raw, "temperature": 2.0 * torch.ones(5, 1)},
    }
    for name, prepare in forms.items():
        record(net, tmp_path / f"{name}.zarr", {"test": [(x.numpy(), None)]}, prepare=prepare)
        outputs = cnatool.open(tmp_path / f"{name}.zarr").splits["test"].outputs(0)[:]
        with torch.no_grad():
            np.testing.assert_array_equal(outputs, (net(x) / 2).numpy())


def test_weights_that_are_computed_of_others(tmp_path: Path) -> None:
    wrap = nn.utils.parametrizations.weight_norm
    net = nn.Sequential(wrap(nn.Linear(4, 8)), nn.ReLU(), nn.Linear(8, 3))
    plain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    for name, each in (("wrapped", net), ("plain", plain)):
        torch.manual_seed(2)
        with torch.no_grad():
            for place in (0, 2):
                set_weight(each[place], torch.randn(each[place].weight.shape))
                each[place].bias.zero_()
        checkpoints = Checkpoints(
            each, tmp_path / name, {"test": [(fed(5, 4), None)]}, weights=True, run="r"
        )
        with torch.no_grad():
            set_weight(each[0], each[0].weight + 1)
        checkpoints(step=0, epoch=0)
    found, expected = (
        cnatool.open(tmp_path / name / "r-epoch00000.zarr").record.weights
        for name in ("wrapped", "plain")
    )
    assert expected is not None
    for one, two in zip(found.layers, expected.layers, strict=True):
        assert one.frobenius == pytest.approx(two.frobenius, rel=1e-5)
        assert one.distance == pytest.approx(two.distance, rel=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")
def test_what_is_refused(tmp_path: Path) -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 3)))
    for network, message in (
        (scripted, "a scripted module takes no hooks"),
        (lambda x: x, r"a torch\.nn\.Module is needed, but this is function"),
        (nn.Sequential(nn.LazyLinear(3)), "has parameters that have no shape yet"),
    ):
        with pytest.raises(UsageError, match=message):
            Recorder(network, tmp_path / "a.zarr")
    net = Net()
    with pytest.raises(UsageError, match=r"modules=5: use one of preactivation, linear, all"):
        record(net, tmp_path / "a.zarr", {"test": [(fed(5, 4), None)]}, modules=5)
    with pytest.raises(DataError, match="a batch without samples"):
        record(net, tmp_path / "a.zarr", {"test": [(fed(0, 4), None)]})
    with (
        pytest.raises(DataError, match="there are 7 samples, and no tensor that the network is"),
        Recorder(net, tmp_path / "a.zarr") as recorder,
        recorder.batch("test", inputs=fed(7, 4)),
    ):
        net(fed(5, 4))
    with Recorder(net, tmp_path / "a.zarr") as recorder:
        with recorder.batch("test"):
            net(fed(5, 4))
        with (
            pytest.raises(UsageError, match="batches cannot be nested"),
            recorder.batch("test"),
            recorder.batch("test"),
        ):
            pass
    with pytest.raises(UsageError, match="recorder is closed"), recorder.batch("test"):
        pass
    assert hooks(net) == 0


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_what_fails_leaves_the_network_and_all_batches_before(kind: Any, tmp_path: Path) -> None:
    net = Net()
    with (
        contextlib.suppress(kind),
        Recorder(net, tmp_path / "net.zarr") as recorder,
        torch.no_grad(),
    ):
        for number in range(20):
            with recorder.batch("train", labels=[0] * 1000):
                net(fed(1000, 4))
                if number == 19:
                    raise kind
    assert hooks(net) == 0
    split = cnatool.open(tmp_path / "net.zarr").splits["train"]
    assert len(split) == 19000
    assert not split.record.complete


def test_a_batch_that_failed_is_left_out(tmp_path: Path) -> None:
    net = Net().eval()
    with Recorder(net, tmp_path / "net.zarr") as recorder, torch.no_grad():
        for x in (fed(5, 4), fed(5, 7), fed(3, 4)):
            with contextlib.suppress(RuntimeError), recorder.batch("test"):
                net(x)
    found = sums(tmp_path / "net.zarr")["a"]
    with torch.no_grad():
        expected = torch.cat([net.a(x).sum(1) for x in (fed(5, 4), fed(3, 4))])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
