"""What campaigns attack: small networks, data and stores, made once and undisturbed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from support.dumps import make_data
from support.networks import mlp, saved

import cnatool
from campaigns.processes import Commands, Ended
from cnatool.errors import NotAStoreError

# Variable of the environment.
KEPT = "CNATOOL_CAMPAIGN_STORES"
FORMATS = ("zarr", "h5")
BATCH = ("--batch-size", 16)
_ROWS = {"train": 300, "test": 100}
_NETWORKS = 3


def other(form: str) -> str:
    """Give the other format."""
    return FORMATS[1 - FORMATS.index(form)]


def make_once(name: str, folder: Path, make: Callable[[], object]) -> None:
    """Make a folder; where the environment names one to keep copies in, take the copy in it."""
    keep = os.environ.get(KEPT, "")
    kept = Path(keep) / name
    if keep and kept.exists():
        shutil.copytree(kept, folder)
        return
    make()
    if keep:
        shutil.copytree(folder, kept)


def make_common(folder: Path, commands: Commands) -> None:
    """Make networks, data, and of each format a store, an old store, and stores of checkpoints."""

    def make() -> None:
        folder.mkdir()
        # One process makes all of them.
        done(commands.run(cwd=folder, call="campaigns.made:make_stores"))

    make_once("common", folder, make)


def make_stores() -> None:
    """Make what campaigns have in common: in processes of `campaigns.processes`."""
    make_data(Path(), *_ROWS.values())
    for number in range(_NETWORKS):
        saved(mlp((64, 12, 8, 10), seed=number), Path(f"{number}.onnx"))
    for form in FORMATS:
        for number in range(_NETWORKS):
            tags = {"epoch": str(number)}
            cnatool.dump(f"{number}.onnx", "data", f"n{number}.{form}", tags=tags, limit=40)
        cnatool.dump("net.onnx", "data", f"old.{form}", limit=5)
        cnatool.dump("net.onnx", "data", f"dump.{form}", batch_size=BATCH[1])


def done(ended: Ended) -> Ended:
    """Make sure that a command succeeded."""
    if ended.code:
        raise AssertionError(f"exit code {ended.code}: {ended.errors[-1500:]}")
    return ended


def record(path: str, overwrite: str = "") -> None:
    """Record a store batch by batch, as a script does: in processes of `campaigns.processes`."""
    rng = np.random.default_rng(7)
    # As chunks are small, rows that are this long are committed every few batches.
    weights = rng.normal(size=(64, 40)).astype(np.float32)
    with cnatool.create_store(
        path, tensors=["first", "y"], outputs=["y"], overwrite=bool(overwrite)
    ) as store:
        for split, rows in _ROWS.items():
            for start in range(0, rows, 20):
                x = rng.normal(size=(20, 64)).astype(np.float32)
                store.append(
                    split,
                    inputs=x,
                    labels=np.arange(start, start + 20) % 10,
                    outputs=(x @ weights)[:, :10],
                    activations={"first": x @ weights},
                )


@dataclass(frozen=True)
class Contents:
    """All arrays of a store, in memory, by split and key; and whether all splits are complete."""

    splits: dict[str, dict[str, np.ndarray]]
    complete: bool
    record: Any

    def __eq__(self, expected: object) -> bool:
        """Say whether two stores are equal bit for bit."""
        if not isinstance(expected, Contents):
            return NotImplemented
        return (
            self.record == expected.record
            and self.splits.keys() == expected.splits.keys()
            and all(
                self.splits[name].keys() == arrays.keys()
                and all(same(self.splits[name][key], arrays[key]) for key in arrays)
                for name, arrays in expected.splits.items()
            )
        )

    __hash__ = None  # type: ignore[assignment]  # holds arrays

    @property
    def rows(self) -> int:
        """Rows of all splits."""
        return sum(len(arrays["ids"]) for arrays in self.splits.values())


def same(one: np.ndarray, expected: np.ndarray) -> bool:
    """Compare arrays bit for bit."""
    if one.dtype != expected.dtype or one.shape != expected.shape:
        return False
    if one.dtype == object:
        return one.tolist() == expected.tolist()
    return one.tobytes() == expected.tobytes()


def contents(path: Path) -> Contents | None:
    """Read a store; None where there is none."""
    try:
        store = cnatool.open(path)
    except NotAStoreError:
        return None
    splits = {}
    for name, split in store.splits.items():
        arrays = {"ids": split.ids[:], "sum": split.statistics("sum")[:]}
        if split.record.labels:
            arrays["labels"] = split.labels[:]
        for number in range(len(store.record.inputs)):
            arrays[f"inputs/{number}"] = split.inputs(number)[:]
        for number in range(len(store.record.outputs)):
            arrays[f"outputs/{number}"] = split.outputs(number)[:]
        for tensor in store.record.tensors:
            if tensor.kept == "full":
                arrays[f"activations/{tensor.number}"] = split.activations(tensor.name)[:]
        splits[name] = arrays
    complete = bool(splits) and all(split.record.complete for split in store.splits.values())
    return Contents(splits, complete, store.record)


def safe_rows(path: Path, expected: Contents, old: Contents | None = None) -> int:
    """Count the committed rows of a store that was cut off, after a look at each.

    Of an old store, which is replaced, none count.
    """
    found = contents(path)
    if found is None or (old is not None and found == old):
        return 0
    for name, arrays in found.splits.items():
        for key, values in arrays.items():
            prefix = expected.splits[name][key][: len(values)]
            assert same(values, prefix), f"{path.name}: {name}/{key} is wrong"
    faults = cnatool.verify(path).faults
    assert not faults, f"{path.name}: verify finds {faults}"
    return found.rows


def listing(folder: Path) -> dict[str, bytes]:
    """Give the contents of all files below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def copied(source: Path, target: Path) -> None:
    """Copy a store of any format."""
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)


def removed(path: Path) -> None:
    """Remove a store or a folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
