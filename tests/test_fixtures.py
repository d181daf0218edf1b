"""Stores of an earlier version are read as it read them, and made again bit for bit.

`tests/fixtures/make.py` made them; what may differ is said in `support.fixtures`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command import run
from support.fixtures import (
    FOLDER,
    arithmetic,
    file_difference,
    find_counterpart,
    record_store,
    store_difference,
    unpack,
    versions,
    words_of,
)

import cnatool

pytestmark = pytest.mark.skipif(
    not (FOLDER / "stores.zip").exists(),
    reason="a source distribution has no stores of an earlier version",
)
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())
COMMANDS: dict[str, dict[str, Any]] = MANIFEST["commands"]
# Other kernels of NumPy may differ in the last bits, other libraries in the bytes of a store.
EXACT = MANIFEST["arithmetic"] == arithmetic()
SAME_BYTES = MANIFEST["versions"] == versions()
# Commands that change a store or the folder of a result.
CHANGING = ("resume-", "study-again")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("expected"), "expected")


@pytest.fixture(scope="module")
def here(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stores, for commands that change none of them."""
    folder = tmp_path_factory.mktemp("here") / "copy"
    shutil.copytree(original, folder)
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_say_what_they_said(
    name: str, original: Path, here: Path, expected: Path, tmp_path: Path
) -> None:
    entry = COMMANDS[name]
    if name.startswith(CHANGING):
        here = shutil.copytree(original, tmp_path / "copy")
    out = here / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    words = words_of(entry["words"])
    result = run(*words, cwd=here, code=entry["code"])
    kept = expected / name
    stdout = kept / ("stdout.json" if "--json" in words else "stdout.txt")
    assert bool(result.stdout) == stdout.exists(), result.stdout
    new = out / stdout.name
    new.write_text(result.stdout)
    for path in sorted(p for p in kept.rglob("*") if p.is_file()):
        found = file_difference(path, find_counterpart(path, kept, out), exact=EXACT)
        assert found is None, f"{name}: {found}"


@pytest.mark.parametrize("name", MANIFEST["dumps"])
def test_dumps_are_what_they_were(name: str, original: Path, here: Path) -> None:
    new = here / "stores" / f"again-{name}"
    run("dump", *words_of(MANIFEST["dumps"][name]), "-o", new, "-q", cwd=here)
    found = store_difference(original / "stores" / name, new, exact=EXACT, same_bytes=SAME_BYTES)
    assert found is None, found


@pytest.mark.parametrize("name", ["recorded.zarr", "recorded.h5"])
def test_recordings_are_what_they_were(name: str, original: Path, tmp_path: Path) -> None:
    record_store(tmp_path / name)
    found = store_difference(
        original / "stores" / name, tmp_path / name, exact=EXACT, same_bytes=SAME_BYTES
    )
    assert found is None, found


@pytest.mark.parametrize("name", ["killed.zarr", "killed.h5", "journal.h5"])
def test_an_interrupted_dump_is_continued(name: str, here: Path) -> None:
    words = words_of("dump sources/net.onnx sources/many SCALE -q -o")
    run(*words, f"whole-{name}", cwd=here)
    run(*words, f"stores/{name}", "--resume", cwd=here)
    assert cnatool.verify(here / "stores" / name).faults == ()
    found, truth = (cnatool.open(here / p) for p in (f"stores/{name}", f"whole-{name}"))
    for split, whole in truth.splits.items():
        mine = found.splits[split]
        assert mine.ids[:].tolist() == whole.ids[:].tolist()
        np.testing.assert_array_equal(mine.statistics()[:], whole.statistics()[:])
        np.testing.assert_array_equal(mine.inputs()[:], whole.inputs()[:])
        for tensor in truth.tensors:
            if tensor.output is None:
                values = (s.activations(tensor.name)[:] for s in (mine, whole))
                np.testing.assert_array_equal(*values)


@pytest.mark.parametrize("source", ["full.zarr", "full.h5", "full.zarr.zip", "narrow.h5"])
def test_conversions_are_dumps_of_the_other_format(source: str, here: Path) -> None:
    """The old stores, converted, have the same arrays."""
    target = here / f"converted-{source.replace('.', '-')}{'.zarr' if '.h5' in source else '.h5'}"
    run("convert", f"stores/{source}", target.name, "-q", cwd=here)
    truth, found = cnatool.open(here / "stores" / source), cnatool.open(target)
    assert found.record == truth.record
    for name, split in truth.splits.items():
        np.testing.assert_array_equal(found.splits[name].inputs()[:], split.inputs()[:])
        np.testing.assert_array_equal(found.splits[name].statistics()[:], split.statistics()[:])


@pytest.mark.parametrize("kind", ["zarr", "h5"])
def test_stores_of_one_dump_agree_with_other_libraries(kind: str, original: Path) -> None:
    """What the earlier version stored is what the network computes, in whole numbers."""
    store = cnatool.open(original / f"stores/full.{kind}")
    for name, split in store.splits.items():
        data = np.load(original / f"sources/data/{name}.npz")
        np.testing.assert_array_equal(split.inputs()[:], data["x"])
        np.testing.assert_array_equal(split.labels[:], data["y"])
        sums = np.stack([split.activations(t)[:].astype(float).sum(1) for t in ("fc1", "relu1")], 1)
        np.testing.assert_array_equal(split.statistics()[:, :2], sums)
