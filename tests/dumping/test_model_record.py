"""Norms of weights, which a dump measures beside the rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.dumps import commit_often, files, make_data, same_arrays
from support.networks import mlp, saved
from support.notes import Notes

import cnatool
from cnatool.backend.network import open_network
from cnatool.backend.weights.weights import measure_weights
from cnatool.dumping import model_record
from cnatool.errors import ModelError
from cnatool.records.weights import WeightsRecord

NAMES = ["s.zarr", "s.h5"]
TRAIN, TEST = 333, 150


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    commit_often(monkeypatch)
    return make_data(tmp_path, TRAIN, TEST)


def dump(here: Path, store: str, **options: Any) -> cnatool.Store:
    return cnatool.dump(
        here / "net.onnx", here / "data", here / store, **{"batch_size": 16, **options}
    )


def patch(monkeypatch: pytest.MonkeyPatch, measure: Callable[..., WeightsRecord]) -> None:
    monkeypatch.setattr(model_record, "measure_weights", measure)


def never(*words: Any) -> WeightsRecord:
    """Measure until it is ended."""
    while True:
        words[-1]()
        time.sleep(0.001)


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("cnatool-weights")]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("split", "at"), [("train", 200), ("test", 100)])
def test_a_resumed_dump_measures_what_the_interrupted_one_did_not(
    name: str, split: str, at: int, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = dump(here, f"whole-{name}")
    assert whole.record.weights is not None
    with monkeypatch.context() as context:
        patch(context, never)
        with pytest.raises(KeyboardInterrupt):
            dump(here, name, observer=Notes(split, at))
    assert not threads()
    begun = cnatool.open(here / name)
    assert begun.record.weights is None
    assert begun.splits["train"].record.complete == (split == "test")
    measures = cnatool.score(begun).baselines
    assert measures.l2.reason is not None
    assert "the dump is not finished" in measures.l2.reason
    dump(here, name, resume=True)
    same_arrays(here / name, whole.path)


@pytest.mark.parametrize("name", NAMES)
def test_norms_that_take_longer_than_the_rows_are_waited_for(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = dump(here, f"whole-{name}")
    waited = threading.Event()

    class Waiting(Notes):
        def note(self, text: str) -> None:
            super().note(text)
            if text.startswith("measuring the weights"):
                waited.set()

    def slow(*words: Any) -> WeightsRecord:
        assert waited.wait(60)
        return measure_weights(*words)

    monkeypatch.setattr(model_record, "_PATIENCE", 0.01)
    patch(monkeypatch, slow)
    notes = Waiting()
    dump(here, name, observer=notes)
    assert notes.texts.count("measuring the weights of 4 layers") == 1
    same_arrays(here / name, whole.path)


@pytest.mark.parametrize("name", NAMES)
def test_norms_are_there_with_the_next_commit(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = threading.Event()

    def quick(*words: Any) -> WeightsRecord:
        found = measure_weights(*words)
        measured.set()
        return found

    class Interrupting(Notes):
        def progress(self, split: str, done: int, total: int) -> None:
            assert measured.wait(60)
            super().progress(split, done, total)

    patch(monkeypatch, quick)
    with pytest.raises(KeyboardInterrupt):
        dump(here, name, observer=Interrupting("train", 300))
    assert cnatool.open(here / name).record.weights is not None
    # They are not measured again.
    patch(monkeypatch, never)
    dump(here, name, resume=True)
    dump(here, name, resume=True)


def test_an_error_ends_the_dump_and_keeps_the_old_store(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = dump(here, "s.zarr").record
    before = files(here)

    def broken(*words: Any) -> WeightsRecord:
        raise ModelError("of no network")

    patch(monkeypatch, broken)
    with pytest.raises(ModelError, match="of no network"):
        dump(here, "s.zarr", overwrite=True)
    assert cnatool.open(here / "s.zarr").record == old
    assert files(here) == before
    assert not threads()


def test_a_failing_dump_does_not_wait_for_norms(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(monkeypatch, never)

    def full(*words: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cnatool.store.writer.SplitWriter.append", full)
    with pytest.raises(OSError, match="No space left"):
        dump(here, "s.zarr")
    assert not threads()


def test_initial_weights_of_another_network_are_refused_before_a_row(here: Path) -> None:
    initial = saved(mlp((64, 20, 7, 12, 10)), here / "initial.onnx")
    before = files(here)
    with pytest.raises(ModelError, match="is not the initial state of"):
        dump(here, "s.zarr", initial_model=initial)
    assert files(here) == before


def test_a_measurement_can_be_ended_at_each_layer_and_node(here: Path) -> None:
    network = open_network(here / "net.onnx")

    class Ended(BaseException):
        pass

    def end_after(calls: int) -> Callable[[], None]:
        left = iter(range(calls))

        def check() -> None:
            if next(left, None) is None:
                raise Ended

        return check

    calls = 0
    while True:
        try:
            measure_weights(network, [], (1, 64), None, (), end_after(calls))
        except Ended:
            calls += 1
        else:
            break
    # Four layers, and in the path norm these and the three nonlinearities.
    assert calls == 4 + 7
