"""Stores whose attribute says what no dump writes: every command refuses them or has a result."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.hostile import (
    changed_attributes,
    copied,
    described_store,
    full_attribute,
    little_memory,
    plain_attribute,
    put_attribute,
)
from typer.testing import CliRunner

import cnatool
from cnatool.cli.app import app
from cnatool.errors import CnatoolError

# More examples for whoever has the time.
EXAMPLES = int(os.environ.get("CNATOOL_HOSTILE_EXAMPLES", "10"))
SECONDS = 20


class Case:
    """A store to change, what it was made from, and the commands that read it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        store = described_store(folder)
        self.full, self.plain = full_attribute(store), plain_attribute(store)
        self.begun = unfinished(self.plain)
        cnatool.convert(store, folder / "store.h5")
        self.good = {".zarr": store, ".h5": folder / "store.h5"}
        self.stores = {ending: folder / f"bad{ending}" for ending in self.good}
        for each in self.good:
            copied(self.good[each], self.stores[each])
        self.earliest, self.earlier = folder / "earliest.zarr", folder / "earlier.zarr"
        for epoch, path in enumerate((self.earliest, self.earlier)):
            tagged = self.plain | {"tags": {"epoch": f"{epoch}"}}
            put_attribute(copied(store, path), json.dumps(tagged), checksum=True)

    def put(self, ending: str, attribute: str, *, checksum: bool) -> Path:
        store = self.stores[ending]
        copied(self.good[ending], store)
        put_attribute(store, attribute, checksum=checksum)
        return store

    def commands(self, store: Path) -> Iterator[list[Any]]:
        """Give every command that reads a store."""
        good, out = self.good[".zarr"], self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        (out / "stores").mkdir(parents=True)
        for name, path in (("good", good), ("bad", store)):
            (out / "stores" / f"{name}{path.suffix}").symlink_to(path)
        dump = ["dump", self.folder / "net.onnx", "-q"]
        dump += [f"--split={name}={self.folder / name}.npz" for name in ("train", "test")]
        dump += ["--initial-model", self.folder / "initial.onnx", "--flatness"]
        dump += ["--statistics=all", "--tag=epoch=3", "--mean=0.5", "--std=0.25"]
        few = [f"--set={name}=20" for name in ("resamples", "permutations", "area_resamples")]
        yield ["inspect", store, "--layers", "--skipped"]
        yield ["inspect", store, "--json"]
        yield ["score", store, "--all", "--baselines", "--layers", *few]
        yield ["score", store, "--json", "--set", "aggregate=mean", *few]
        yield ["layers", store]
        yield ["verify", store]
        yield ["compare", store, good, *few]
        yield ["compare", good, store, "--json", *few]
        yield ["convert", store, out / f"new{store.suffix}", "-q"]
        yield ["study", out / "stores", "--resamples", 10]
        yield ["trajectory", self.earlier, store, "--order", "epoch"]
        yield ["landscape", self.earliest, self.earlier, store, "--order", "epoch", "--grid", 3]
        for figure in ("depth-profile", "alpha-beta", "area"):
            yield ["plot", store, "--figure", figure, "-o", out / f"{figure}.json"]
        yield [*dump, "-o", out / "dumped.zarr", "--inputs-from", store]
        # The last, since it may change the store.
        yield [*dump, "-o", store, "--resume"]


def unfinished(attribute: dict[str, Any]) -> dict[str, Any]:
    """Give the attribute of a store whose last split has rows that are not committed."""
    attribute = json.loads(json.dumps(attribute))
    last = attribute["splits"]["test"]
    last |= {"complete": False, "committed": [], "fingerprint": None, "checksums": {}}
    return attribute


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("hostile"))


def tried(case: Case, store: Path, chosen: range | None = None) -> None:
    """Run the commands, or those of some numbers alone."""
    for number, words in enumerate(case.commands(store)):
        if chosen is not None and number not in chosen:
            continue
        began = time.process_time()
        with little_memory():
            result = CliRunner().invoke(app, [*map(str, words)])
        error = result.exception
        if error is not None and not isinstance(error, CnatoolError | SystemExit):
            raise AssertionError(f"{words[0]}: {type(error).__name__}: {error}") from error
        assert time.process_time() - began < SECONDS, words


@pytest.mark.parametrize("ending", [".zarr", ".h5"])
def test_a_store_that_is_whole(case: Case, ending: str) -> None:
    store = case.put(ending, json.dumps(case.plain), checksum=True)
    for words in case.commands(store):
        result = CliRunner().invoke(app, [*map(str, words)])
        # All three checkpoints are alike, so that they span no plane.
        if words[0] != "landscape":
            assert result.exit_code == 0, (words[0], result.output, result.exception)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=EXAMPLES,
)
@given(data=st.data(), ending=st.sampled_from([".zarr", ".h5"]), checksum=st.booleans())
def test_changed_attributes(case: Case, data: Any, ending: str, checksum: bool) -> None:
    whole = data.draw(st.sampled_from([case.full, case.plain, case.begun]))
    attribute = data.draw(changed_attributes(whole))
    # All commands take seconds; those that are left out have other examples.
    first = data.draw(st.integers(0, 3))
    tried(case, case.put(ending, attribute, checksum=checksum), range(first, 99, 4))
