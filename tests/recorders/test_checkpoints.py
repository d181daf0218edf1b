"""Checkpoints of a PyTorch network in training, by hand and from Lightning's trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.mnist import Mlp, nn, torch

import cnatool
from cnatool.errors import UsageError
from cnatool.recorders.checkpoints import Series
from cnatool.recorders.torch.checkpoints import Checkpoints


def samples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    levels = rng.integers(2, 257, (60, 1))
    x = (rng.integers(0, levels, (60, 16)) * 255 // (levels - 1)).astype(np.uint8)
    return x, rng.integers(0, 3, 60)


def prepared(raw: Any) -> torch.Tensor:
    return torch.as_tensor(raw) / 255


def probe() -> dict[str, Any]:
    x, y = samples()
    return {"train": [(x[:30], y[:30]), (x[30:40], y[30:40])], "test": [(x[40:], y[40:])]}


def trained(folder: Path | None, **options: Any) -> tuple[nn.Module, list[Path | None]]:
    torch.manual_seed(0)
    network = nn.Sequential(Mlp(16, 12, 10, 3), nn.Dropout(0.2)).train()
    checkpoints = None
    if folder is not None:
        checkpoints = Checkpoints(network, folder, probe(), prepare=prepared, **options)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    x, y = map(torch.as_tensor, samples())
    written = [] if checkpoints is None else [checkpoints(0, 0)]
    for epoch in range(1, 4):
        for rows in torch.randperm(60).split(20):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(prepared(x[rows])), y[rows]).backward()
            optimizer.step()
        if checkpoints is not None:
            written.append(checkpoints(3 * epoch, epoch))
    return network, written


def test_a_series_of_epochs(tmp_path: Path) -> None:
    plain, _ = trained(None)
    network, written = trained(
        tmp_path, run="a", tags={"rate": "0.1"}, weights=True, every=1, statistics="sum"
    )
    assert network.training
    for one, other in zip(plain.parameters(), network.parameters(), strict=True):
        assert torch.equal(one, other)
    assert [path.name for path in written] == [f"a-epoch{n:05d}.zarr" for n in range(4)]
    results = [cnatool.score(path) for path in written]
    assert results[2].tags == {"run": "a", "step": "6", "epoch": "2", "rate": "0.1"}
    distances = [result.baselines.distance.value for result in results]
    assert distances[0] == 0
    assert distances == sorted(set(distances))
    network.eval()
    x, y = samples()
    with torch.no_grad():
        right = network(prepared(x[:40])).argmax(1).numpy() == y[:40]
    assert results[-1].splits["train"].accuracy == right.mean()
    networks = cnatool.study(tmp_path, resamples=0).networks
    assert sorted(map(int, networks["tag.epoch"])) == [0, 1, 2, 3]


def test_every_second_step(tmp_path: Path) -> None:
    _, written = trained(tmp_path, unit="step", every=6)
    names = [None if path is None else path.name for path in written]
    assert names == ["run-step00000000.zarr", None, "run-step00000006.zarr", None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every=0: use a positive integer"),
        ({"unit": "batch"}, "unit='batch': use 'step' or 'epoch'"),
        ({"run": "a/b"}, "run='a/b': use a name"),
    ],
)
def test_errors(options: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        Series(tmp_path, {}, **options)
    with pytest.raises(UsageError, match="an iterator can be read only once"):
        Series(tmp_path, {"train": iter([])})
    with pytest.raises(UsageError, match="checkpoints count epochs: give epoch="):
        Series(tmp_path, {}).record(lambda *_: None, 3, None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("unit", "every", "counts"), [("epoch", 1, [0, 1, 2]), ("step", 2, [0, 2, 4, 6])]
)
def test_lightning(unit: str, every: int, counts: list[int], tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")
    from cnatool.recorders.lightning import store_callback

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = Mlp(16, 12, 10, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.network(x)

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            x, y = batch
            return nn.functional.cross_entropy(self(x), y)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    x, y = map(torch.as_tensor, samples())
    data = torch.utils.data.TensorDataset(prepared(x), y)
    loader = torch.utils.data.DataLoader(data, 20)
    torch.manual_seed(0)
    module = Module()
    callback = store_callback(
        tmp_path / "series", probe(), every=every, unit=unit, prepare=prepared, run="l"
    )
    trainer = lightning.Trainer(
        max_epochs=2,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)
    stores = sorted((tmp_path / "series").iterdir())
    tags = [cnatool.open(path).record.tags for path in stores]
    assert [int(tag[unit]) for tag in tags] == counts
    last = cnatool.open(stores[-1])
    assert [layer.linear for layer in last.layers] == ["network.fc1", "network.fc2", "network.fc3"]
    x, _ = samples()
    with torch.no_grad():
        outputs = module(prepared(x[40:])).numpy()
    np.testing.assert_allclose(last.splits["test"].outputs()[:], outputs, rtol=1e-5, atol=1e-6)
