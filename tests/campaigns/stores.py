"""Stores that say odd things of themselves: refused in one message, or read; nothing else."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import h5py
import msgspec

import cnatool
from campaigns.answers import Refused, answer
from campaigns.campaign import Attack, Outcome
from campaigns.commands import run_command
from campaigns.damage import Folder
from campaigns.limits import limited_memory
from campaigns.specimens import QUICK, specimens
from campaigns.trees import changed_tree

_MEMORY = 6 << 30


@contextmanager
def odd_stores(folder: Path) -> Iterator[Attack]:
    """Make stores of all kinds, and change what one says of itself a round."""
    warnings.simplefilter("ignore")
    subjects = [
        (each, Folder(each.folder))
        for each in specimens(folder)
        if not each.name.startswith("zip") and "journal" not in each.name
    ]
    new = folder / "new"

    def attack(number: int, rng: random.Random) -> Outcome:
        specimen, files = subjects[number % len(subjects)]
        what = "nothing"
        try:
            what = _change(specimen.scored, rng)
            return Outcome(specimen.name, _result(specimen.scored, new, rng))
        except Exception as error:
            error.subject = specimen.name
            error.add_note(f"after: {what}")
            raise
        finally:
            files.restore()
            for each in (*folder.glob("new*"), *folder.glob(".new*")):
                shutil.rmtree(each) if each.is_dir() else each.unlink()

    with limited_memory(_MEMORY):
        yield attack


def _change(store: Path, rng: random.Random) -> str:
    if store.is_dir():
        files = sorted(store.rglob("zarr.json"))
        file = store / "zarr.json" if rng.randrange(2) else rng.choice(files)
        about = json.loads(file.read_text())
        if file.parent == store and rng.randrange(3):
            about["attributes"] = _changed_attributes(about["attributes"], rng)
        else:
            about = changed_tree(about, rng)
        text = json.dumps(about, ensure_ascii=bool(rng.randrange(4)))
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        return f"{file.relative_to(store)} changed"
    with h5py.File(store, "r+") as root:
        held = {
            "cnatool": json.loads(root.attrs["cnatool"]),
            "cnatool_crc32c": _text(root.attrs["cnatool_crc32c"]),
        }
        for name, value in _changed_attributes(held, rng).items():
            text = value if isinstance(value, str) else json.dumps(value)
            root.attrs[name] = text.encode("utf-8", "surrogatepass").replace(b"\0", b"?")
    return "attribute changed"


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _changed_attributes(held: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Change the attribute in one to three places; let its checksum fit, mostly."""
    about = held["cnatool"]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        about = changed_tree(about, rng)
    found = {**held, "cnatool": about}
    if rng.randrange(10):
        try:
            text = msgspec.json.encode(about, order="deterministic")
        except (UnicodeError, ValueError, OverflowError):
            text = json.dumps(about).encode("utf-8", "surrogatepass")
        found["cnatool_crc32c"] = f"{google_crc32c.value(text):08x}"
    return found


def _result(store: Path, new: Path, rng: random.Random) -> str:
    score = answer(lambda: cnatool.score(store, overrides=QUICK).to_json())
    faults = cnatool.verify(store).faults
    words: list[list[str]] = [
        ["inspect", str(store)],
        ["score", str(store), "--set", "resamples=0"],
        ["layers", str(store)],
        ["verify", str(store)],
    ]
    others: list[Callable[[], object]] = [
        lambda: cnatool.score_layers(store, overrides=QUICK),
        lambda: cnatool.compare(store, store, overrides=QUICK),
        lambda: cnatool.convert(store, new.with_suffix(".h5" if store.is_dir() else ".zarr")),
        lambda: cnatool.study([store], resamples=0),
        lambda: cnatool.score_samples(store),
        lambda: cnatool.plot(store, "alpha-beta").to_dict(),
        lambda: cnatool.dump(
            store.parent.parent / "m.onnx", store.parent.parent / "data", store, resume=True
        ),
        lambda: run_command(rng.choice(words), new.parent, {}),
        lambda: run_command(rng.choice(words), new.parent, {}),
    ]
    answer(rng.choice(others))
    if isinstance(score, Refused):
        return "refused, a fault" if faults else "refused"
    return "scored, a fault" if faults else "scored"
