"""Pages of stores and studies: their numbers, their bytes, and what they say is missing."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from support.dumps import commit_often, make_data
from support.notes import Notes
from support.pages import HOSTILE, QUICK, Blocks, record, unpack
from support.parts import Parts
from support.texts import TEXTS, record_texts

import cnatool
from cnatool._util.text import printable
from cnatool.page.packed import quantise
from cnatool.page.pictures import read_as_picture
from cnatool.page.samples import most_samples
from cnatool.plotting.style import COLOURS
from cnatool.records.run import Preprocessing
from cnatool.records.store import ArrayRecord

ROWS = 120


def test_numbers_are_those_of_the_scores(tmp_path: Path) -> None:
    record(tmp_path / "a.zarr")
    cnatool.report(tmp_path / "a.zarr", tmp_path / "a.html")
    view = Blocks(tmp_path / "a.html").blocks["view-0"]
    assert view["score"] == json.loads(cnatool.score(tmp_path / "a.zarr").to_json())
    assert view["layers"] == json.loads(cnatool.score_layers(tmp_path / "a.zarr").to_json())
    frame = cnatool.score_samples(tmp_path / "a.zarr")
    for column in ("alpha", "beta", "margin"):
        values = unpack(view["samples"][column])
        assert np.allclose(values, frame[column], rtol=1e-6), column
    assert list(unpack(view["samples"]["label"])) == frame["label"].to_list()
    assert list(unpack(view["samples"]["prediction"])) == frame["prediction"].to_list()
    assert view["samples"]["id"] == frame["id"].to_list()


def test_z_of_samples(tmp_path: Path) -> None:
    store = record(tmp_path / "a.zarr")
    cnatool.report(store, tmp_path / "a.html", max_samples=50, overrides=QUICK)
    samples = Blocks(tmp_path / "a.html").blocks["view-0"]["samples"]
    z = samples["z"]
    low, high = np.array(z["low"]), np.array(z["high"])
    codes = unpack(z["codes"]).reshape(-1, len(low))
    shown = low + (high - low) * (codes / 65534)
    rows = unpack(samples["row"])
    assert len(rows) == 50
    for split, part in (("train", slice(0, 25)), ("test", slice(25, 50))):
        for layer, name in enumerate(("one", "two", "three")):
            whole = store.splits[split].activations(name)[:].sum(axis=1, dtype=np.float64)
            expected = whole[rows[part]]
            assert np.allclose(shown[part, layer], expected, atol=1e-3), (split, name)


def test_pictures_are_the_raw_inputs(tmp_path: Path) -> None:
    from io import BytesIO

    from PIL import Image

    store = record(tmp_path / "a.zarr")
    cnatool.report(store, tmp_path / "a.html", overrides=QUICK)
    blocks = Blocks(tmp_path / "a.html").blocks
    pictures = blocks[f"pictures-{blocks['view-0']['pictures']}"]
    assert pictures["count"] == 2 * ROWS
    (url,) = pictures["sheets"]
    sheet = np.asarray(Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))))
    raw = np.concatenate([store.splits[name].inputs()[:] for name in ("train", "test")])
    for place, sample in enumerate(unpack(pictures["samples"])):
        line, column = divmod(place, pictures["columns"])
        drawn = sheet[6 * line : 6 * line + 6, 5 * column : 5 * column + 5]
        assert (drawn == raw[sample]).all()


def test_the_same_store_gives_the_same_bytes(tmp_path: Path) -> None:
    store = record(tmp_path / "a.zarr")
    pages = []
    for name in ("one.html", "two.html"):
        cnatool.report(store, tmp_path / name, max_samples=100)
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


def test_fewer_samples_than_there_are(tmp_path: Path) -> None:
    record(tmp_path / "a.zarr", rows={"train": 100, "test": 10, "validation": 100})
    written = cnatool.report(
        tmp_path / "a.zarr", tmp_path / "a.html", max_samples=90, overrides=QUICK
    )
    splits = Blocks(tmp_path / "a.html").blocks["view-0"]["samples"]["splits"]
    assert [(s["name"], s["shown"], s["total"]) for s in splits] == [
        ("train", 40, 100),
        ("test", 10, 10),
        ("validation", 40, 100),
    ]
    assert any("90 of 210 samples are shown" in note for note in written.notes)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    tensors = tuple(f"{HOSTILE}{number}" for number in range(4))
    record(tmp_path / "a.zarr", tensors=tensors, tags={HOSTILE: HOSTILE})
    (tmp_path / "a.zarr").rename(tmp_path / "<b>&amp;.zarr")
    cnatool.report(tmp_path / "<b>&amp;.zarr", tmp_path / "a.html", title=HOSTILE, overrides=QUICK)
    text = (tmp_path / "a.html").read_text("utf-8")
    page = Blocks(tmp_path / "a.html")
    assert "img" not in page.tags
    assert text.count("<script") == 2 + len(page.blocks) - 1
    assert HOSTILE not in text
    assert any(HOSTILE in fact["text"] for fact in page.blocks["view-0"]["facts"])


def test_nothing_can_be_fetched(tmp_path: Path) -> None:
    record(tmp_path / "a.zarr")
    cnatool.report(tmp_path / "a.zarr", tmp_path / "a.html", overrides=QUICK)
    text = (tmp_path / "a.html").read_text("utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "default-src &#x27;none&#x27;" in policy[1]
    assert "unsafe" not in policy[1]
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) == {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"labels": False}, "no labels"),
        ({"rows": {"all": ROWS}}, "no split called train or test"),
        ({"rows": {"test": ROWS}}, "no split called train"),
    ],
)
def test_what_is_missing_has_its_reason(
    options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    record(tmp_path / "a.zarr", **options)
    cnatool.report(tmp_path / "a.zarr", tmp_path / "a.html", overrides=QUICK)
    view = Blocks(tmp_path / "a.html").blocks["view-0"]
    assert reason in json.dumps(view["score"])
    assert view["samples"]["alpha"] is not None


def test_one_layer_has_no_profile(tmp_path: Path) -> None:
    record(tmp_path / "a.zarr", tensors=("one", "out"))
    cnatool.report(tmp_path / "a.zarr", tmp_path / "a.html", overrides=QUICK)
    view = Blocks(tmp_path / "a.html").blocks["view-0"]
    assert view["layers"] is None
    assert "two layers" in view["layers_reason"]
    assert view["samples"]["beta"] is None
    assert [step["counted"] for step in view["network"]] == [0, None]


def test_a_store_that_cannot_be_scored_still_has_a_page(tmp_path: Path) -> None:
    store = record(tmp_path / "c.zarr")
    cnatool.report(store, tmp_path / "c.html", overrides={"range": "0:0.5"})
    view = Blocks(tmp_path / "c.html").blocks["view-0"]
    assert view["score"] is None
    assert "outside" in view["score_reason"]
    assert len(view["network"]) == 4


def test_several_stores_and_their_study(tmp_path: Path) -> None:
    for number in range(4):
        record(tmp_path / f"stores/{number}.zarr", seed=number, tags={"width": str(number)})
    cnatool.study(tmp_path / "stores", folder=tmp_path / "study", resamples=0)
    notes = Notes()
    cnatool.report(
        [tmp_path / "study", tmp_path / "stores"],
        tmp_path / "a.html",
        overrides=QUICK | {"resamples": 200},
        observer=notes,
    )
    assert notes.done == [("networks", done, 4) for done in range(1, 5)]
    few = cnatool.report(tmp_path / "stores", tmp_path / "b.html", overrides=QUICK, max_samples=30)
    (note,) = few.notes
    assert note.startswith("0 and 3 more: 30 of 240 samples are shown")
    blocks = Blocks(tmp_path / "a.html").blocks
    study = blocks["view-0"]
    assert study["kind"] == "study"
    assert study["stores"] == [1, 2, 3, 4]
    facts = {fact["name"]: fact["text"] for fact in study["facts"]}
    assert facts["intervals"].startswith("none: ")
    assert [blocks[f"view-{n}"]["name"] for n in study["stores"]] == study["ids"]
    assert len([name for name in blocks if name.startswith("pictures-")]) == 1
    column = next(c for c in study["columns"] if c["name"] == "test.cna")
    cna = [blocks[f"view-{n}"]["score"]["splits"]["test"]["cna"]["value"] for n in range(1, 5)]
    assert unpack(column["values"]).tolist() == cna


def test_products_of_norms_are_not_cut(tmp_path: Path) -> None:
    """Those of deep networks exceed what single precision holds."""
    for number in range(3):
        record(tmp_path / f"stores/{number}.zarr", seed=number)
    study = cnatool.study(tmp_path / "stores", resamples=0, overrides=QUICK)
    products = [1e30, 2e45, 3e120]
    networks = study.networks.with_columns(pl.Series("spectral", products))
    cnatool.report(replace(study, networks=networks), tmp_path / "a.html")
    columns = Blocks(tmp_path / "a.html").blocks["view-0"]["columns"]
    (values,) = [unpack(column["values"]) for column in columns if column["name"] == "spectral"]
    assert values.tolist() == products


def test_stores_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    record(tmp_path / "stores/good.zarr")
    (tmp_path / "stores/bad.zarr").mkdir()
    written = cnatool.report(tmp_path / "stores", tmp_path / "a.html", overrides=QUICK)
    assert [Path(store.path).name for store in written.not_scored] == ["bad.zarr"]
    assert len(Blocks(tmp_path / "a.html").blocks) == 2


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("a.txt", "must end in .html"),
        ("none/a.html", "no such folder"),
        ("there.html", "is already there"),
        ("a.zarr/a.html", "which is only read"),
    ],
)
def test_where_no_page_is_written(path: str, error: str, tmp_path: Path) -> None:
    record(tmp_path / "a.zarr")
    (tmp_path / "there.html").write_text("mine")
    with pytest.raises(cnatool.UsageError, match=error):
        cnatool.report(tmp_path / "a.zarr", tmp_path / path)
    assert (tmp_path / "there.html").read_text() == "mine"


def test_every_asset_is_in_the_page(tmp_path: Path) -> None:
    record(tmp_path / "a.zarr")
    cnatool.report(tmp_path / "a.zarr", tmp_path / "a.html", overrides=QUICK)
    text = (tmp_path / "a.html").read_text("utf-8")
    for asset in (Path(cnatool.__file__).parent / "page/assets").iterdir():
        content = asset.read_text("utf-8")
        if asset.suffix in (".css", ".js"):
            assert content in text, asset.name


def test_colours_are_those_of_the_figures() -> None:
    styles = (Path(cnatool.__file__).parent / "page/assets/base.css").read_text("utf-8")
    first = [re.search(rf"--c{k}: (#\w+)", styles)[1].upper() for k in range(4)]  # type: ignore[index]
    assert first == list(COLOURS[:4])


def test_pictures_stay_within_their_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnatool.page.pictures._BUDGET", 6000)
    record(tmp_path / "a.zarr", rows={"train": 700})
    written = cnatool.report(tmp_path / "a.zarr", tmp_path / "a.html", overrides=QUICK)
    blocks = Blocks(tmp_path / "a.html").blocks
    pictures = blocks[f"pictures-{blocks['view-0']['pictures']}"]
    content = [base64.b64decode(url.partition(",")[2]) for url in pictures["sheets"]]
    assert 3000 < sum(map(len, content)) <= 6000
    samples = unpack(pictures["samples"])
    assert len(samples) == pictures["count"] < 700
    assert len(set(samples)) == len(samples)
    assert f"a: {len(samples)} of 700 samples have a picture, chosen at random" in written.notes


def test_many_layers_leave_room_for_fewer_samples() -> None:
    assert most_samples(50, 1, 10_000) == 10_000
    assert most_samples(50, 1, 300) == 300
    wide = most_samples(5000, 1, 10_000)
    assert 100 < wide < 1000
    assert most_samples(5000, 3, 10_000) == pytest.approx(wide / 3, abs=1)


def test_values_outside_the_range_of_a_column() -> None:
    z = np.array([[0.0, np.nan, 1e308], [1.0, np.inf, -1e308], [0.25, np.nan, 0.0]])
    codes = unpack(msgspec.to_builtins(quantise(z).codes)).reshape(z.shape)
    assert codes.tolist() == [[0, 65535, 65534], [65534, 65535, 0], [16384, 65535, 32767]]


@pytest.mark.parametrize("name", ["a.zarr", "a.h5"])
def test_an_unfinished_store(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_data(tmp_path, 300, 40)

    class Stop:
        def note(self, text: str) -> None: ...

        def progress(self, split: str, done: int, rows: int) -> None:
            if done >= 200:
                raise KeyboardInterrupt

    commit_often(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        cnatool.dump(
            folder / "net.onnx", folder / "data", tmp_path / name, batch_size=16, observer=Stop()
        )
    rows = len(cnatool.open(tmp_path / name).splits["train"])
    assert 0 < rows < 300
    cnatool.report(tmp_path / name, tmp_path / "a.html", overrides=QUICK)
    view = Blocks(tmp_path / "a.html").blocks["view-0"]
    assert view["samples"]["splits"][0]["total"] == rows
    assert any("is not finished" in note for note in view["notes"])


def test_a_merged_store(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    whole = parts.dump("whole.zarr")
    cnatool.merge(parts.parts(3), tmp_path / "merged.zarr")
    shown = []
    for store in (whole, tmp_path / "merged.zarr"):
        cnatool.report(store, tmp_path / "a.html", overwrite=True, max_samples=30, overrides=QUICK)
        blocks = Blocks(tmp_path / "a.html").blocks
        shown.append(blocks["view-0"]["samples"])
    assert shown[0] == shown[1]


@pytest.mark.parametrize(
    ("shape", "dtype", "reason"),
    [
        ((16,), "float32", "of shape [16] a sample"),
        ((2, 6, 6), "float32", "2 channels"),
        ((6, 6), "int64", "hold int64"),
        ((2, 2, 2, 2), "float32", "of shape [2, 2, 2, 2]"),
    ],
)
def test_raw_inputs_that_are_no_pictures(shape: tuple[int, ...], dtype: str, reason: str) -> None:
    array = ArrayRecord("x", dtype, shape)
    found = read_as_picture(array, None)
    assert isinstance(found, str)
    assert reason in found


def test_counts_of_levels_are_no_pictures() -> None:
    found = read_as_picture(ArrayRecord("x", "uint32", (257,), "uint8"), None)
    assert isinstance(found, str)
    assert "`keep_inputs=values`" in found


@pytest.mark.parametrize(
    ("shape", "layout", "target", "order"),
    [
        ((784,), "reshape", (1, 28, 28), "chw"),
        ((28, 28), "as is", (28, 28), "hwc"),
        ((32, 32, 3), "hwc->chw", (3, 32, 32), "hwc"),
        ((3, 32, 32), "as is", (3, 32, 32), "chw"),
        ((3072,), "flat-chw->hwc", (32, 32, 3), "chw"),
        ((3072,), "flat-hwc->chw", (3, 32, 32), "hwc"),
    ],
)
def test_raw_inputs_that_are_pictures(
    shape: tuple[int, ...], layout: str, target: tuple[int, ...], order: str
) -> None:
    recipe = Preprocessing("x", "uint8", shape, layout, target, "float32")
    found = read_as_picture(ArrayRecord("x", "uint8", shape), recipe)
    assert not isinstance(found, str)
    assert (found.height, found.width) in {(28, 28), (32, 32)}
    assert found.channels == 1 or found.order == order


@pytest.mark.parametrize("names", ["abcd", "dcba", None])
def test_labels_have_names_that_hold_for_all_splits(names: str | None, tmp_path: Path) -> None:
    for name, classes in (("train", "abcd"), ("test", names)):
        record(tmp_path / f"{name}.zarr", rows={name: 60}, classes=classes and list(classes))
    stores = (tmp_path / "train.zarr", tmp_path / "test.zarr")
    cnatool.report(stores[0], tmp_path / "a.html", test=stores[1], overrides=QUICK)
    shown = Blocks(tmp_path / "a.html").blocks["view-0"]["classes"]
    assert shown == (None if names == "dcba" else list("abcd"))


def test_a_test_split_in_another_store(tmp_path: Path) -> None:
    for name in ("train", "test"):
        record(tmp_path / f"{name}.zarr", rows={name: 60})
    stores = (tmp_path / "train.zarr", tmp_path / "test.zarr")
    cnatool.report(stores[0], tmp_path / "a.html", test=stores[1], overrides=QUICK)
    view = Blocks(tmp_path / "a.html").blocks["view-0"]
    assert [(split["name"], split["shown"]) for split in view["samples"]["splits"]] == [
        ("train", 60),
        ("test", 60),
    ]
    assert view["score"] == json.loads(cnatool.score(*stores, overrides=QUICK).to_json())
    assert view["classes"] is None
    with pytest.raises(cnatool.UsageError, match="`test` needs one store"):
        cnatool.report(stores, tmp_path / "b.html", test=stores[1], overrides=QUICK)


def test_texts_are_shown_in_place_of_pictures(tmp_path: Path) -> None:
    store = record_texts(tmp_path / "a.zarr", {"text": TEXTS}, kinds={"text": "text"})
    cnatool.report(store, tmp_path / "a.html", max_samples=30, overrides=QUICK)
    view = Blocks(tmp_path / "a.html").blocks["view-0"]
    rows = unpack(view["samples"]["row"])
    splits = cnatool.open(store).splits
    expected = [splits["train"].texts()[row] for row in rows[:15]]
    expected += [splits["test"].texts()[row] for row in rows[15:]]
    assert view["samples"]["text"] == [printable(text) for text in expected]
    assert view["pictures_reason"] == "the raw inputs are texts"
    assert view["score"]["splits"]["train"]["length"]["unit"] == "bytes"


def test_long_texts_are_cut(tmp_path: Path) -> None:
    texts = [f"{row} {'long ' * 10_000}" for row in range(60)]
    store = record_texts(tmp_path / "a.zarr", {"text": texts}, kinds={"text": "text"})
    cnatool.report(store, tmp_path / "a.html", overrides=QUICK)
    shown = Blocks(tmp_path / "a.html").blocks["view-0"]["samples"]["text"]
    assert all(text.startswith(f"{row} long") for row, text in enumerate(shown))
    assert max(map(len, shown)) <= 400
