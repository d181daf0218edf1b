from __future__ import annotations

import re
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command import run
from support.dumps import make_data
from support.networks import mlp, residual_convnet, saved
from support.notes import Notes

import cnatool
from cnatool._util import memory
from cnatool._util.text import time_text
from cnatool.backend.statistics import checked as measured
from cnatool.dumping import plan, preflight
from cnatool.errors import UsageError
from cnatool.records.choices import Codec, Kept, OnError
from cnatool.store.codec_choice import encoded_bytes

GIB = 1 << 30


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a network and data: pictures of a few grey strokes on black."""
    rng = np.random.default_rng(0)
    saved(residual_convnet(), tmp_path / "net.onnx")
    (tmp_path / "data").mkdir()
    for name, rows in (("train", 3000), ("test", 500)):
        x = rng.integers(0, 256, (rows, 8, 8), np.uint8)
        x[:, :3] = 0
        np.savez(tmp_path / f"data/{name}.npz", x=x, y=rng.integers(0, 10, rows))
    return tmp_path


def size(store: Path) -> int:
    """Bytes of a store's files."""
    files = (file for file in (store, *store.rglob("*")) if file.is_file())
    return sum(file.stat().st_size for file in files)


def free(monkeypatch: pytest.MonkeyPatch, room: float) -> None:
    usage = shutil._ntuple_diskusage(10 * GIB, 10 * GIB - int(room), int(room))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)


@pytest.mark.parametrize(
    "options", [{}, {"keep": "statistics"}, {"dtype": "float16"}, {"codec": "zstd"}]
)
def test_size_is_what_the_dump_then_takes(here: Path, options: dict[str, object]) -> None:
    words = here / "net.onnx", here / "data", here / "s.zarr"
    found = cnatool.preflight(*words, **options)
    assert not (here / "s.zarr").exists()
    store = cnatool.dump(*words, **options)
    assert found.disk_bytes == pytest.approx(size(store.path), rel=0.05)
    assert found.samples == {"train": 3000, "test": 500}
    assert found.tensors == len(store.tensors)
    assert found.fits
    assert found.seconds < 60
    row = sum(a.dtype.itemsize * int(np.prod(a.shape[1:])) for a in _arrays(store))
    assert found.sample_bytes == row + 64  # and an id


@pytest.mark.parametrize("keep", ["full", "statistics"])
def test_statistics_of_units_count(here: Path, keep: Kept) -> None:
    words = here / "net.onnx", here / "data", here / "s.zarr"
    plain = cnatool.preflight(*words, keep=keep)
    found = cnatool.preflight(*words, keep=keep, units=True)
    store = cnatool.dump(*words, keep=keep, units=True)
    assert found.disk_bytes == pytest.approx(size(store.path), rel=0.05)
    taken = sum(size(path) for path in store.path.glob("splits/*/units"))
    assert found.disk_bytes - plain.disk_bytes == pytest.approx(taken, rel=0.3)
    assert store.record.units
    assert found.memory_bytes >= store.record.units.units * 20_000
    part = cnatool.preflight(*words[:2], here / "p.zarr", keep=keep, units=True, part="1/3")
    assert part.whole is not None
    assert part.whole.disk_bytes > found.disk_bytes


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize("keep", ["full", "statistics"])
@pytest.mark.parametrize("rows", [(8, 5), (60, 40), (1100, 300), (9000, 100)])
@pytest.mark.parametrize("name", ["s.h5", "s.zarr"])
def test_metadata_and_padding_count(
    name: str, rows: tuple[int, int], keep: Kept, on_error: OnError, tmp_path: Path
) -> None:
    make_data(tmp_path, *rows)
    words = tmp_path / "net.onnx", tmp_path / "data", tmp_path / name
    options: dict[str, Any] = {"codec": "none", "keep": keep, "on_error": on_error}
    estimate = cnatool.preflight(*words, **options)
    store = cnatool.dump(*words, **options)
    assert estimate.disk_bytes == pytest.approx(size(store.path), rel=0.08)


def _arrays(store: cnatool.Store) -> list[cnatool.StoredArray]:
    split = store.splits["test"]
    whole = [split.activations(t.name) for t in store.tensors if t.stored is not None]
    return [split.inputs(), split.outputs(), split.labels, split.statistics(), *whole]


@pytest.mark.parametrize("codec", ["lz4", "zstd", "gzip", "none"])
def test_encoded_bytes_are_those_of_a_chunk(here: Path, codec: Codec) -> None:
    store = cnatool.dump(here / "net.onnx", here / "data", here / "s.zarr", codec=codec)
    chunk = store.path / "splits/test/outputs/0/c.0.0"
    rows = store.splits["test"].outputs()[:]
    # Beside it: its checksum, and the index of the shard twice.
    assert encoded_bytes(rows, codec) == chunk.stat().st_size - 4 - 2 * 20
    ids = np.array(["a picture.png", "Bär.png"] * 500, dtype=object)
    assert encoded_bytes(ids, codec) < (500 if codec != "none" else 20_000)


def test_no_sample_goes_through_the_model_twice(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []

    class Counting(measured.ExposedModel):
        def run(self, batches, samples):  # type: ignore[no-untyped-def]
            counts.append(samples)
            return super().run(batches, samples)

    monkeypatch.setattr(measured, "ExposedModel", Counting)
    cnatool.dump(here / "net.onnx", here / "data", here / "s.zarr")
    # The probe's samples once more, to compare with what the probe gave.
    assert (counts[0], sum(counts[1:])) == (3, 3500)


def test_what_would_not_fit_is_refused_with_what_would(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = here / "net.onnx", here / "data"
    sizes = {
        "`keep='statistics'`": size(cnatool.dump(*words, here / "a.zarr", keep="statistics").path),
        "`tensors='layers'`": size(cnatool.dump(*words, here / "b.zarr", tensors="layers").path),
        "`dtype='float16'`": size(cnatool.dump(*words, here / "c.zarr", dtype="float16").path),
    }
    whole = size(cnatool.dump(*words, here / "d.zarr").path)
    for share in (0.01, 0.3, 0.6, 0.9):
        free(monkeypatch, share * whole)
        with pytest.raises(UsageError, match="are free. Use ") as caught:
            cnatool.dump(*words, here / "s.zarr")
        assert not (here / "s.zarr").exists()
        message = str(caught.value)
        for way, taken in sizes.items():
            if taken < share * whole / 1.3:
                assert way in message
            if taken > share * whole:
                assert way not in message
        limit = int(re.search(r"`limit=(\d+)`", message)[1])
        kept = cnatool.dump(*words, here / "l.zarr", limit=limit, overwrite=True)
        assert 0.7 * share * whole < size(kept.path) < share * whole
    free(monkeypatch, 0.3 * whole)
    assert not cnatool.preflight(*words, here / "s.zarr").fits


def test_an_old_store_outlives_a_refusal(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = here / "net.onnx", here / "data", here / "s.zarr"
    cnatool.dump(*words, limit=5)
    free(monkeypatch, 1000)
    with pytest.raises(UsageError, match="are free"):
        cnatool.dump(*words, overwrite=True)
    assert len(cnatool.open(here / "s.zarr").splits["train"]) == 5
    assert not list(here.glob(".*"))


def test_too_little_memory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = here / "net.onnx", here / "data", here / "s.zarr"
    monkeypatch.setattr(plan, "available_memory", lambda: 10_000)
    with pytest.raises(UsageError, match="of memory are available. Use `batch_size=N`"):
        cnatool.dump(*words)
    monkeypatch.setattr(plan, "available_memory", lambda: 4 << 20)
    monkeypatch.setattr(preflight, "available_memory", lambda: 4 << 20)
    lines = cnatool.preflight(*words, batch_size=8).lines()
    assert "`batch_size=N` or `tensors=GLOB` needs less" in lines[-1]


def test_memory_is_what_the_system_says() -> None:
    resident, peak = memory.resident_memory(), memory.peak_memory()
    assert 0 < resident <= peak
    assert peak <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 * 1.01
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < memory.available_memory() <= total


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (("memory.max", "memory.current"), ("1000\n", "400\n")),
        (("memory.limit_in_bytes", "memory.usage_in_bytes"), ("1000\n", "400\n")),
    ],
)
def test_a_control_group_bounds_memory(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, str],
    values: tuple[str, str],
) -> None:
    group = tmp_path / "a/b"
    group.mkdir(parents=True)
    (tmp_path / "process").mkdir()
    (tmp_path / "process/cgroup").write_text("0::/a/b\n")
    for name, value in zip(names, values, strict=True):
        (group / name).write_text(value)
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "_PROCESS", tmp_path / "process")
    assert memory.available_memory() == 600
    (group / names[0]).write_text("max\n")
    assert memory.available_memory() > 1 << 20


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (6, "5 seconds"),
        (44, "45 seconds"),
        (170, "3 minutes"),
        (89 * 60, "89 minutes"),
        (3 * 3600, "3 hours"),
        (9e5, "10 days"),
    ],
)
def test_time_is_said_no_finer_than_it_is_known(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_lines_are_few_and_fit_a_terminal(here: Path) -> None:
    notes = Notes()
    cnatool.dump(here / "net.onnx", here / "data", here / "s.zarr", observer=notes)
    lines = [text for text in notes.texts if "on disk" in text or "of memory" in text]
    assert len(lines) == 2
    assert re.fullmatch(r"3,500 samples of \S+ kB: about \S+ MB on disk, \S+ \wB free", lines[0])
    assert re.fullmatch(r"up to \S+ \wB of memory, \S+ \wB available", lines[1])
    long = cnatool.Preflight(
        here, {"train": 1_281_167, "test": 50_000}, 999, 123_456_789, 123_456_789_012,
        123_456_789_012_345, 5555.5, 12_345_678_901, 123_456_789_012,
    )  # fmt: skip
    assert all(len(line) <= 80 for line in long.lines())
    assert long.lines()[1].startswith("about 2 hours; up to 12.3 GB of memory")


def test_dry_run_of_the_command(here: Path) -> None:
    before = sorted(here.rglob("*"))
    result = run("dump", "net.onnx", "data", "--dry-run", cwd=here)
    first, second = result.stdout.splitlines()
    assert first.startswith("3,500 samples of ")
    assert second.startswith("up to ")
    assert sorted(here.rglob("*")) == before


def test_dry_run_of_what_does_not_fit(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(mlp(), here / "mlp.onnx")
    usage = type(shutil.disk_usage(here))(10**6, 0, 10**5)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    before = sorted(here.rglob("*"))
    result = run("dump", "mlp.onnx", "data", "--dry-run", cwd=here, code=2)
    message = result.stderr.splitlines()[-1]
    assert message.startswith("cnatool: mlp.zarr would need about ")
    assert "--limit" in message
    assert "100 kB free" in result.stdout
    assert sorted(here.rglob("*")) == before
