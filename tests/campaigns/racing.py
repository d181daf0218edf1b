"""First uses of cnatool in several threads of a fresh process: the side that runs there."""

from __future__ import annotations

import hashlib
import json
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import cnatool

_FEWER = {"resamples": 0, "permutations": 0, "area_resamples": 0}


def _opened(store: str, target: str) -> object:
    found = cnatool.open(store)
    split = found.splits["test"]
    return found.record.created_by, split.outputs()[:].tobytes().hex(), split.ids[:].tolist()


def _scored(store: str, target: str) -> object:
    return cnatool.score(store, overrides=_FEWER).to_json()


def _layers(store: str, target: str) -> object:
    return cnatool.score_layers(store, overrides=_FEWER).to_json()


def _verified(store: str, target: str) -> object:
    return [str(fault) for fault in cnatool.verify(store).faults]


def _compared(store: str, target: str) -> object:
    return cnatool.compare(store, store, overrides=_FEWER).to_json()


def _dumped(store: str, target: str) -> object:
    return _values(cnatool.dump("../common/net.onnx", "../common/data", target, limit=20))


def _converted(store: str, target: str) -> object:
    return _values(cnatool.convert(store, target))


def _recorded(store: str, target: str) -> object:
    from campaigns.made import record

    record(target)
    return _values(cnatool.open(target))


def _values(store: cnatool.Store) -> list[str]:
    """Give the checksums of the raw data, and those of outputs."""
    return [
        hashlib.sha256(split.outputs()[:].tobytes()).hexdigest() + str(split.record.fingerprint)
        for split in store.splits.values()
    ]


USES: dict[str, Callable[[str, str], object]] = {
    "open": _opened,
    "score": _scored,
    "layers": _layers,
    "verify": _verified,
    "compare": _compared,
    "dump": _dumped,
    "convert": _converted,
    "record": _recorded,
}


def race(plan: str) -> None:
    """Use cnatool in threads that begin at once, and print a digest of each result."""
    planned = json.loads(plan)
    rng = random.Random(planned["seed"])
    sys.setswitchinterval(planned["interval"])
    barrier = threading.Barrier(len(planned["uses"]))
    digests: list[str] = [""] * len(planned["uses"])

    def run(place: int, use: str, store: str, target: str) -> None:
        barrier.wait()
        try:
            result = USES[use](store, target)
        except Exception as error:
            digests[place] = f"{type(error).__name__}: {error}"
            return
        digests[place] = hashlib.sha256(json.dumps(result).encode()).hexdigest()

    threads = [
        threading.Thread(target=run, args=(place, *words))
        for place, words in enumerate(planned["uses"])
    ]
    rng.shuffle(threads)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _, _, target in planned["uses"]:
        assert not Path(f".{target}.lock").exists()
    print(json.dumps(digests))  # noqa: T201  whoever began this process reads it
