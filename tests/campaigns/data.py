"""Broken files of samples: refused in one message, or read as others read the same bytes."""

from __future__ import annotations

import json
import random
import tracemalloc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from campaigns.answers import Refused, answer
from campaigns.campaign import Attack, Outcome
from campaigns.damage import Folder
from campaigns.samples import FORMS, Form, Read
from campaigns.trees import changed_json
from cnatool.data.detect import open_source
from cnatool.data.selection import ArraySelection, ImageOptions

_MEMORY = 64 << 20


@contextmanager
def broken_data(folder: Path) -> Iterator[Attack]:
    """Make files of samples in every format, and break one a round."""
    warnings.simplefilter("ignore")
    subjects = []
    for form in FORMS:
        place = folder / f"in {form.name}"
        place.mkdir()
        path = place / form.name
        form.write(path)
        truth = form.read(path)
        assert _same(_read(path, form, skip=False), truth), form.name
        subjects.append((form, Folder(place), truth))

    def attack(number: int, rng: random.Random) -> Outcome:
        form, files, truth = subjects[number % len(subjects)]
        what = "nothing"
        skip = rng.random() < 0.3
        try:
            what = _damage(files, rng)
            if files.read() == files.files:
                return Outcome(form.name, "not changed")
            return Outcome(form.name, _result(files.path / form.name, form, truth, skip=skip))
        except Exception as error:
            error.subject = form.name
            error.add_note(f"after: {what}{', skipping' if skip else ''}")
            raise
        finally:
            files.restore()

    yield attack


def _damage(files: Folder, rng: random.Random) -> str:
    name = files.file(rng)
    way = rng.random()
    if name.endswith("json") and way < 0.5:
        content = changed_json(json.loads(files.files[name]), rng)
        (files.path / name).write_bytes(content)
        return f"another value in {name}"
    if len(files.files) > 1 and way > 0.8:
        return rng.choice((files.delete, files.rename, files.duplicate, files.exchange))(name, rng)
    return files.damage(name, rng)


def _read(path: Path, form: Form, *, skip: bool) -> Read:
    """Read all samples by cnatool; check what it promises of them."""
    source = open_source(
        path, ArraySelection(images=ImageOptions(skip_unreadable=skip)), format_name=form.form
    )
    blocks = list(source.blocks(4))
    skipped = sum(len(block.skipped) for block in blocks)
    assert sum(len(block.ids) for block in blocks) + skipped == source.rows
    assert skip or not skipped
    (spec,) = source.inputs
    values, labels = [], []
    for block in blocks:
        assert all(len(each.encode()) <= source.id_bytes for each in block.ids)
        assert block.inputs[0].shape == (len(block.ids), *spec.shape)
        assert block.inputs[0].dtype == spec.dtype
        good = [row for row in range(len(block.ids)) if row not in block.faults]
        assert skip or len(good) == len(block.ids)
        values.append(block.inputs[0][good])
        if block.labels is not None:
            labels += block.labels[good].tolist()
    names = source.classes
    text = [names[label] if names else str(label) for label in labels]
    found = np.concatenate(values) if values else np.empty((0, *spec.shape), spec.dtype)
    return found, text if source.labelled else None


def _result(path: Path, form: Form, truth: Read, *, skip: bool) -> str:
    tracemalloc.start()
    try:
        found = answer(lambda: _read(path, form, skip=skip))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < _MEMORY, f"{peak} bytes of memory"
    if isinstance(found, Refused):
        assert path.name in found.message, f"where is not said: {found.message}"
        return "refused"
    if _same(found, truth):
        return "no effect"
    if skip and len(found[0]) < len(truth[0]):
        rows = {each.tobytes() for each in np.asarray(truth[0])}
        others = [each for each in found[0] if each.tobytes() not in rows]
        assert len(others) <= 1, "more than one sample is another"
        return "skipped"
    try:
        expected = (form.read_some or form.read if skip else form.read)(path)
    except Exception as error:  # libraries raise their own kinds
        raise AssertionError(
            f"read as {_text(found)}, where another reader says {error!r}"
        ) from error
    assert _same(found, expected), f"read as {_text(found)}, by another as {_text(expected)}"
    return "read as by another reader"


def _text(found: Read) -> str:
    values = np.asarray(found[0])
    return f"{values.shape} {values.dtype} {values.ravel()[:5]}, labels {found[1]}"


def _same(found: Read, expected: Read) -> bool:
    values, truth = np.asarray(found[0]), np.asarray(expected[0])
    return (
        values.shape == truth.shape
        and np.array_equal(values, truth.astype(values.dtype), equal_nan=_floating(values))
        and (found[1] is None or expected[1] is None or _numbers(found[1]) == _numbers(expected[1]))
    )


def _floating(values: np.ndarray) -> bool:
    return values.dtype.kind == "f"


def _numbers(labels: list[str]) -> list[Any]:
    try:
        return [int(each) for each in labels]
    except ValueError:
        return labels
