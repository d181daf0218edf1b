"""Damage is done, and put back."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from campaigns.damage import OF_BYTES, Folder
from campaigns.samples import FORMS, Form

_CONTENT = bytes(range(256)) + b"\0\0\xff\xff" + b"0.125, 17"


@pytest.mark.parametrize("kind", OF_BYTES)
def test_bytes_change(kind: str) -> None:
    changed = [OF_BYTES[kind](_CONTENT, random.Random(seed)) for seed in range(20)]
    assert sum(each != _CONTENT for each in changed) > 10
    assert changed[3] == OF_BYTES[kind](_CONTENT, random.Random(3))


def test_a_folder_is_put_back(tmp_path: Path) -> None:
    for name in ("a/one.bin", "a/b/two.json", "three"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(_CONTENT + name.encode())
    (tmp_path / "empty").mkdir()
    folder = Folder(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    ways = (folder.damage, folder.delete, folder.rename, folder.duplicate, folder.exchange)
    for seed in range(50):
        rng = random.Random(seed)
        rng.choice(ways)(folder.file(rng), rng)
        folder.restore()
        assert folder.read() == folder.files
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_samples_are_what_was_written(tmp_path: Path, form: Form) -> None:
    form.write(tmp_path / form.name)
    values, labels = form.read(tmp_path / form.name)
    assert len(values) > 2
    assert labels is None or len(labels) == len(values)
