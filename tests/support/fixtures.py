"""Stores and results that an earlier version wrote, and when two results say the same."""

from __future__ import annotations

import hashlib
import json
import math
import re
import zipfile
from collections.abc import Container
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl

import cnatool
from cnatool.records.layout import split_arrays

FOLDER = Path(__file__).parents[1] / "fixtures"
# Options that many commands of the manifest have.
_SHORT = {
    "SCALE": "--scale 1/256",
    "FEW": "--set resamples=20 --set permutations=19 --set area_resamples=5 --set window=8",
}
# Fields that were renamed since: the old name, and the one that took its place.
RENAMED: dict[str, str] = {}
# Those of one document alone: by its schema, where they are, and their names.
_MOVED: dict[str, tuple[str, dict[str, str]]] = {
    "cnatool.layers/1": (
        r"\.splits\.\w+",
        {"rows": "samples", "rows_wanted": "rows", "samples": "profiles"},
    ),
}
_SCHEMAS = {"cnatool.layers/1": "cnatool.layers/2"}
# Fields of documents, and columns of tables, that earlier versions did not write.
_ADDED_FIELDS = re.compile(
    r"^(alpha_(input|symbols|window|undefined)|sound_range|length|sources|unit_axis"
    r"|first_apart|by_added_noise|worst|agreement|added_noise|row|narrowed|weighted|compare|(train|test)\.samples)$"
)
# What a study compares by default has changed for what the data tell, whatever the network.
_OF_THE_DATA = re.compile(r"\.(samples|alpha\.mean|alpha\.std)$")
# Tables of text that were laid out anew.
_LAID_OUT_ANEW = frozenset({"compare-text", "study-text"})
# What no two runs have in common.
_VARYING = {"seconds", "free_bytes", "memory_bytes", "available_bytes"}
# What follows the compression of Zarr's arrays, which this version chooses for each.
_COMPRESSED = {"disk_bytes"}
# What follows the versions of libraries.
_VERSIONED = {"created_by", "version", "$schema", "cnatool_crc32c"}
# Attributes of arrays that earlier versions did not write.
_ADDED = {"long_name"}
# Sentences may be worded anew: their numbers stay.
_PROSE = re.compile(r"notes$|reason$|^(faults|ways|title|subtitle|text|description|why)$")
_NUMBER = re.compile(r"\d[\d.,]*(?:e[+-]?\d+)?")
# Notes of a dump that tell the disk and the memory of the machine.
_OF_THE_MACHINE = re.compile(r" free$|available$")
# Notes that earlier versions wrote to the terminal only.
_UNFINISHED = re.compile(r" is not finished: ")


def versions() -> dict[str, str]:
    """Versions of what decides the bytes of a store."""
    names = ("h5py", "numcodecs", "onnxruntime", "zarr")
    return {
        "cnatool": cnatool.__version__,
        "hdf5": h5py.version.hdf5_version,
        **{n: version(n) for n in names},
    }


def arithmetic() -> str:
    """Digest of what this machine's NumPy computes: equal where results are, to the last bit."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(257, 129))
    values = [np.exp(x), np.log(np.abs(x)), np.tanh(x), np.sqrt(np.abs(x)), x.sum(0), x.sum(1)]
    values += [x @ x.T, np.linalg.svd(x, compute_uv=False), np.corrcoef(x), x.var(0), x.mean(1)]
    values += [np.exp2(x), np.log2(np.abs(x)), np.power(np.abs(x), 1.7)]
    values += [(x.astype(np.float32) @ x.astype(np.float32).T), np.exp(x.astype(np.float32))]
    found = hashlib.sha256(np.__version__.encode())
    for value in values:
        found.update(np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


def difference(old: Any, new: Any, *, exact: bool, where: str = "") -> str | None:
    """Describe where a JSON value differs from the one of an earlier version, None if nowhere."""
    if isinstance(old, dict) and isinstance(new, dict):
        old = {RENAMED.get(key, key): value for key, value in old.items()}
        new = {key: value for key, value in new.items() if not _is_added(key, old)}
        if where.endswith(".means"):  # in the order of kinds of measures, of which some changed
            new = {key: new[key] for key in old if key in new}
        if list(old) != list(new):
            return f"{where}: fields {list(new)}, not {list(old)}"
        if list(old) == ["sha256", "score"]:  # a kept score, whose prose the checksum is of, too
            return difference(old["score"], new["score"], exact=exact, where=f"{where}.score")
        for key, value in old.items():
            found = _field_difference(key, value, new[key], exact=exact, where=f"{where}.{key}")
            if found:
                return found
        return None
    if isinstance(old, list) and isinstance(new, list):
        old, new = ([each for each in rows if not _is_left_out(each)] for rows in (old, new))
        if len(old) != len(new):
            return f"{where}: {len(new)} entries, not {len(old)}"
        pairs = enumerate(zip(old, new, strict=True))
        found = (difference(a, b, exact=exact, where=f"{where}[{i}]") for i, (a, b) in pairs)
        return next((text for text in found if text), None)
    numbers = (_as_float(old), _as_float(new)) if type(old) is type(new) else (None, None)
    if not exact and None not in numbers:
        same = math.isclose(*numbers, rel_tol=1e-7, abs_tol=1e-9)
    else:
        same = type(old) is type(new) and old == new
    return None if same else f"{where}: {new!r}, not {old!r}"


def _as_float(value: Any) -> float | None:
    """Return a fraction, which is text in a column with words beside numbers; else None."""
    if isinstance(value, str) and re.fullmatch(r"-?\d+\.\d+(e[+-]?\d+)?", value):
        return float(value)
    return value if isinstance(value, float) else None


def _is_left_out(row: Any) -> bool:
    """Whether a row of a study is of baselines that are new, or compares what is undefined."""
    if not isinstance(row, dict):
        return False
    names = (row.get(column) for column in ("measure", "first", "second"))
    if any(isinstance(name, str) and _OF_THE_DATA.search(name) for name in names):
        return True
    found = row.get("difference", row.get("value"))
    return "first" in row and (found["value"] if isinstance(found, dict) else found) is None


def _is_added(name: str, old: Container[str]) -> bool:
    return name not in old and _ADDED_FIELDS.match(name) is not None


def _field_difference(key: str, old: Any, new: Any, *, exact: bool, where: str) -> str | None:
    if key in _VARYING | _VERSIONED | _COMPRESSED:
        return None if type(old) is type(new) else f"{where}: {new!r}, not {old!r}"
    if _PROSE.search(key) and not isinstance(old, dict):
        return difference(_numbers_of(old), _numbers_of(new), exact=exact, where=where)
    return difference(old, new, exact=exact, where=where)


def _numbers_of(prose: Any) -> Any:
    if isinstance(prose, str):
        return _NUMBER.findall(prose)
    if isinstance(prose, list):
        left_out = (_OF_THE_MACHINE, _UNFINISHED)
        kept = (p for p in prose if not any(pattern.search(str(p)) for pattern in left_out))
        return [_numbers_of(p) for p in kept]
    return prose


def text_difference(old: str, new: str) -> str | None:
    """Describe where the numbers of a table of text differ, line by line."""
    for number, lines in enumerate(zip_longest(old.splitlines(), new.splitlines()), start=1):
        first, second = (_NUMBER.findall(line or "") for line in lines)
        if first != second:
            return f"line {number}: {lines[1]!r}, not {lines[0]!r}"
    return None


def file_difference(old: Path, new: Path, *, exact: bool) -> str | None:
    """Describe where a file of results differs from an earlier one, None if nowhere."""
    if old.parent.name in _LAID_OUT_ANEW:
        return None
    match old.suffix:
        case ".json":
            found = difference(
                _moved(json.loads(old.read_text())), json.loads(new.read_text()), exact=exact
            )
        case ".parquet" | ".csv":
            frames = [_read_frame(path) for path in (old, new)]
            found = _frame_difference(*frames, exact=exact)
            same_rows = len(frames[0]) == len(frames[1]) and old.suffix == ".csv"
            if exact and not found and same_rows and old.read_text() != new.read_text():
                found = "another text"
        case _:
            found = text_difference(old.read_text(), new.read_text())
    return f"{new.name}: {found}" if found else None


def _read_frame(path: Path) -> pl.DataFrame:
    """Read a table; of a CSV file, the texts of its numbers."""
    if path.suffix == ".parquet":
        return pl.read_parquet(path)
    return pl.read_csv(path, infer_schema=False)


def _moved(document: Any) -> Any:
    """Give the fields of one document alone the names that they have since."""
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema not in _MOVED:
        return document
    place, names = _MOVED[schema]

    def renamed(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            return value
        here = names if re.fullmatch(place, where) else {}
        return {here.get(k, k): renamed(v, f"{where}.{k}") for k, v in value.items()}

    return renamed(document, "") | {"schema": _SCHEMAS[schema]}


def _frame_difference(old: pl.DataFrame, new: pl.DataFrame, *, exact: bool) -> str | None:
    old = old.rename({name: RENAMED[name] for name in old.columns if name in RENAMED})
    new = new.select([name for name in new.columns if not _is_added(name, old.columns)])
    if "networks" in old.columns and set(old.columns) == set(new.columns):
        new = new.select(old.columns)  # bins: their measures are in the order of kinds
    if {"measure", "first"} & set(old.columns):
        old, new = (
            frame.filter([not _is_left_out(row) for row in frame.iter_rows(named=True)])
            for frame in (old, new)
        )
    if old.schema != new.schema:
        return f"columns {new.schema}, not {old.schema}"
    for name in old.columns:
        found = difference(old[name].to_list(), new[name].to_list(), exact=exact, where=name)
        if found:
            return found
    return None


def store_difference(old: Path, new: Path, *, exact: bool, same_bytes: bool) -> str | None:
    """Describe where a store differs: attribute, files (or, of other libraries, arrays)."""
    found = difference(attribute(old), attribute(new), exact=exact)
    if found:
        return f"attribute{found}"
    contents = [_files(path) if path.is_dir() else _datasets(path) for path in (old, new)]
    one, other = contents
    if list(one) != list(other):
        return f"contents {sorted(set(one) ^ set(other))}"
    changed = [name for name in one if one[name] != other[name]]
    # Arrays in Zarr are compressed in another way than by earlier versions.
    if changed and same_bytes and not old.is_dir():
        return f"bytes of {changed}"
    return _array_difference(old, new, same_bytes=same_bytes) if changed else None


def attribute(store: Path) -> Any:
    """Read a store's attribute by its format's own library."""
    if store.is_dir():
        return json.loads((store / "zarr.json").read_text())["attributes"]
    with h5py.File(store, "r") as root:
        return {
            "cnatool": json.loads(root.attrs["cnatool"]),
            "cnatool_crc32c": str(root.attrs["cnatool_crc32c"]),
        }


def _files(folder: Path) -> dict[str, Any]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _datasets(path: Path) -> dict[str, Any]:
    """Read all of an HDF5 file but where its objects lie in it, and when they were made."""
    found: dict[str, Any] = {}

    def visit(name: str, item: h5py.HLObject) -> None:
        found[name] = set(item.attrs) - _ADDED
        if isinstance(item, h5py.Dataset):
            chunks = [item.id.get_chunk_info(i) for i in range(item.id.get_num_chunks())]
            places = [chunk.chunk_offset for chunk in chunks]
            raw = {place: item.id.read_direct_chunk(place) for place in places}
            creation = item.id.get_create_plist()
            filters = [creation.get_filter(i) for i in range(creation.get_nfilters())]
            found[name] = (found[name], item.dtype, item.shape, item.chunks, filters, raw)

    with h5py.File(path, "r") as root:
        root.visititems(visit)
    return found


def _array_difference(old: Path, new: Path, *, same_bytes: bool) -> str | None:
    one, other = cnatool.open(old), cnatool.open(new)
    for name, split in one.splits.items():
        mine = other.splits[name]
        for spec in split_arrays(one.record, labels=split.record.labels) if same_bytes else ():
            pair = [s.array(spec.key) for s in (split, mine)]
            if len({array.chunk_rows for array in pair}) > 1:
                return f"chunks of {spec.key} of {name}"
            if spec.dtype is not str and len({array[:].tobytes() for array in pair}) > 1:
                return f"{spec.key} of {name}"
        if split.ids[:].tolist() != mine.ids[:].tolist():
            return f"ids of {name}"
        if split.record.labels and not np.array_equal(split.labels[:], mine.labels[:]):
            return f"labels of {name}"
        if not np.array_equal(split.statistics()[:], mine.statistics()[:]):
            return f"statistics of {name}"
        for tensor in one.tensors:
            if tensor.kept == "full" and tensor.output is None:
                values = (s.activations(tensor.name)[:] for s in (split, mine))
                if not np.array_equal(*values, equal_nan=True):
                    return f"{tensor.name} of {name}"
    return None


def find_counterpart(path: Path, kept: Path, out: Path) -> Path:
    """Find the file that a command writes today in place of one of an earlier version.

    The name of a kept score follows from every field of its convention.
    """
    place = out / path.relative_to(kept)
    if place.exists() or not re.fullmatch("[0-9a-f]{64}", path.stem):
        return place
    store = json.loads(path.read_text())["score"]["store"]
    others = (f for f in place.parent.glob("*.json") if re.fullmatch("[0-9a-f]{64}", f.stem))
    return next((f for f in others if json.loads(f.read_text())["score"]["store"] == store), place)


def words_of(line: str) -> list[str]:
    """Split a command of the manifest."""
    for name, words in _SHORT.items():
        line = line.replace(name, words)
    return line.split()


def pack(folder: Path, target: Path, compression: int = zipfile.ZIP_DEFLATED) -> None:
    """Pack a folder into a ZIP file whose bytes depend on nothing else."""
    with zipfile.ZipFile(target, "w", compresslevel=9) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
                entry.compress_type = compression
                archive.writestr(entry, path.read_bytes())


def unpack(folder: Path, what: str = "stores") -> Path:
    """Unpack the stores and what they were made of, or what was expected, into a folder."""
    with zipfile.ZipFile(FOLDER / f"{what}.zip") as archive:
        archive.extractall(folder)
    return folder


def record_store(path: Path) -> None:
    """Record a store by hand: weights, classes, tags, two splits."""
    rng = np.random.default_rng(5)
    names = {"first": "Linear", "norm": "Norm", "second": "Linear", "logits": "Linear"}
    weights = {
        "first": rng.integers(-4, 5, (6, 16)),
        "second": rng.integers(-4, 5, (5, 6)),
        "logits": rng.integers(-4, 5, (3, 5)),
    }
    layers = [
        cnatool.Layer("norm", linear="first", operator="Linear"),
        cnatool.Layer("second", operator="Linear"),
        cnatool.Layer("logits", operator="Linear", output=True),
    ]
    with cnatool.create_store(
        path,
        tensors=names,
        layers=layers,
        outputs=["logits"],
        statistics=["abs_sum", "max"],
        tags={"run": "a", "step": "7"},
        classes=["ant", "bee", "cat"],
        weights={name: w.astype(np.float32) for name, w in weights.items()},
        initial_weights={name: (w + 1).astype(np.float32) for name, w in weights.items()},
        parameters=150,
    ) as store:
        for split, rows in (("train", 48), ("test", 32)):
            x = (rng.integers(0, 256, (rows, 4, 4)) // rng.integers(1, 99, (rows, 1, 1))).astype(
                "u1"
            )
            flat = x.reshape(rows, 16).astype(np.float32)
            first = flat @ weights["first"].T.astype(np.float32)
            norm = first / 8
            second = np.maximum(norm, 0) @ weights["second"].T.astype(np.float32)
            logits = np.maximum(second, 0) @ weights["logits"].T.astype(np.float32)
            y = np.where(np.arange(rows) % 4, logits.argmax(1), np.arange(rows) % 3)
            for part in (slice(0, 20), slice(20, rows)):
                store.append(
                    split,
                    inputs=x[part],
                    labels=y[part],
                    outputs=logits[part],
                    activations={"first": first[part], "norm": norm[part], "second": second[part]},
                )
