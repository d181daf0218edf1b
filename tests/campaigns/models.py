"""Broken models: each is refused in one short message, or dumped right."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from support.mutations import OF_BYTES, OF_FIELDS, models
from support.networks import mlp

import cnatool
from campaigns.answers import Refused, answer
from campaigns.campaign import Attack, Outcome
from campaigns.commands import run_command
from campaigns.damage import Folder
from campaigns.limits import limited_memory
from campaigns.specimens import QUICK
from cnatool.dumping.inspect import inspect_model

_MEMORY = 6 << 30
_LONGEST_MESSAGE = 900
_EXTERNAL = 4  # of what `models` gives, the one whose weights are in a file beside it


@contextmanager
def broken_models(folder: Path) -> Iterator[Attack]:
    """Make models, and mutate one a round: its fields, its bytes, or the file of its weights."""
    place = folder / "model"
    place.mkdir()
    originals = models(place)
    optimised = _optimised(folder)
    rng = np.random.default_rng(0)
    x, y = rng.random((4, 64), np.float32), np.arange(4)
    np.savez(folder / "x.npz", x=x, y=y)
    files = Folder(place)
    changes = (*OF_BYTES, *OF_FIELDS)

    def make(number: int, rng: random.Random) -> tuple[str, Path]:
        """Write a model file; name how it was made, and give its path."""
        random = np.random.default_rng(rng.getrandbits(64))
        kind = number % (len(changes) + 2)
        path = place / "m.onnx"
        if kind == len(changes):
            path.write_bytes(originals[_EXTERNAL].SerializeToString())
            ways = (files.damage, files.damage, files.delete, files.rename)
            rng.choice(ways)("weights.bin", rng)
            return "file of weights", path
        if kind > len(changes):
            content = bytearray(optimised)
            rng.choice(OF_BYTES)(random, content)
            path = place / "m.ort"
            path.write_bytes(content)
            return "ORT format", path
        model = onnx.ModelProto()
        model.CopyFrom(originals[rng.randrange(len(originals))])
        change = changes[kind]
        name = change.__name__.strip("_")
        if change in OF_BYTES:
            content = bytearray(model.SerializeToString())
            change(random, content)
            path.write_bytes(content)
            return f"bytes: {name}", path
        change(random, model)
        if rng.randrange(3) == 0:
            # Whatever the first one left.
            with suppress(IndexError, AttributeError, TypeError, ValueError):
                rng.choice(OF_FIELDS)(random, model)
        path.write_bytes(model.SerializeToString())
        return f"fields: {name}", path

    def attack(number: int, rng: random.Random) -> Outcome:
        what = "model"
        store = folder / "s.zarr"
        try:
            what, path = make(number, rng)
            return Outcome(what, _result(path, folder, store, x, rng))
        except Exception as error:
            error.subject = what
            raise
        finally:
            shutil.rmtree(store, ignore_errors=True)
            files.restore()

    with limited_memory(_MEMORY):
        yield attack


def _optimised(folder: Path) -> bytes:
    """Give a model in ONNX Runtime's own format."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "m.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(
        mlp((64, 8, 4)).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return (folder / "m.ort").read_bytes()


def _result(path: Path, folder: Path, store: Path, x: np.ndarray, rng: random.Random) -> str:
    keep = rng.choice(("full", "statistics"))
    asked: list[Callable[[], object]] = [lambda: inspect_model(path)]
    if rng.random() < 0.2:
        asked = [lambda: run_command(["inspect", str(path)], folder, {})]
    inspected = answer(asked[0], _LONGEST_MESSAGE)
    dumped = answer(
        lambda: cnatool.dump(path, folder / "x.npz", store, keep=keep, threads=1, overwrite=True),
        _LONGEST_MESSAGE,
    )
    if isinstance(dumped, Refused):
        return "refused" if isinstance(inspected, Refused) else "inspected, not dumped"
    faults = cnatool.verify(store).faults
    assert not faults, f"the dump is broken: {faults[0]}"
    _check_outputs(path, store, x)
    scored = answer(lambda: cnatool.score(store, overrides=QUICK))
    answer(lambda: cnatool.score_layers(store, overrides=QUICK))
    return "dumped, not scored" if isinstance(scored, Refused) else "scored"


def _check_outputs(path: Path, store: Path, x: np.ndarray) -> None:
    """Compare what is stored of the model's outputs with a plain run of the model."""
    try:
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        feeds = {session.get_inputs()[0].name: x.reshape(len(x), *_shape(session))}
        expected = dict(
            zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True)
        )
    except Exception:  # the runtime raises its own kinds: it cannot run all samples at once
        return
    opened = cnatool.open(store)
    (split,) = opened.splits.values()
    for number, each in enumerate(opened.record.outputs):
        found, truth = split.outputs(number)[:], expected.get(each.name)
        if isinstance(truth, np.ndarray) and truth.shape == found.shape and found.dtype.kind == "f":
            with np.errstate(all="ignore"):
                largest = np.nanmax(np.abs(truth), initial=1e-30, where=np.isfinite(truth))
                wrong = np.abs(found - truth) > 1e-3 * largest
            wrong &= np.isfinite(truth)
            assert not wrong.any(), f"output {each.name!r} is not what the model gives"


def _shape(session: ort.InferenceSession) -> list[int]:
    return [int(size) for size in session.get_inputs()[0].shape[1:]]
