"""Pages of stores and studies: their numbers, their bytes, and what they say is missing."""

from __future__ import annotations

import base64
import html.parser
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnatool
from cnatool.plotting.style import COLOURS

ROWS = 120
CLASSES = 4
HOSTILE = "</script><img src=x onerror=alert(1)><!--"


def record(
    path: Path, *, rows: dict[str, int] | None = None, labels: bool = True, **options: Any
) -> cnatool.Store:
    """Record a network of three layers and an output over pictures of noise."""
    rng = np.random.default_rng(0)
    path.parent.mkdir(exist_ok=True)
    names = options.pop("tensors", ["one", "two", "three", "out"])
    layers = [cnatool.Layer(name, operator="Gemm", output=name == names[-1]) for name in names]
    with cnatool.create_store(
        path, tensors=names, outputs=names[-1:], layers=layers, **options
    ) as recording:
        for split, count in (rows or {"train": ROWS, "test": ROWS}).items():
            x = (rng.random((count, 6, 5)) ** rng.random((count, 1, 1)) * 255).astype(np.uint8)
            values = {
                name: rng.normal(depth, 1, (count, 8)).astype(np.float32)
                for depth, name in enumerate(names[:-1])
            }
            scores = rng.normal(size=(count, CLASSES)).astype(np.float32)
            recording.append(
                split,
                inputs=x,
                labels=rng.integers(0, CLASSES, count) if labels else None,
                outputs=scores,
                activations=values | {names[-1]: scores},
            )
    return cnatool.open(path)


class Blocks(html.parser.HTMLParser):
    """Collects the blocks of JSON, and every tag."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: dict[str, Any] = {}
        self.tags: set[str] = set()
        self._open: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        attributes = dict(attrs)
        self._open = attributes.get("id") if "json" in (attributes.get("type") or "") else None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.blocks[self._open] = json.loads(data)
            self._open = None


def read(path: Path) -> Blocks:
    parser = Blocks()
    parser.feed(path.read_text("utf-8"))
    return parser


def unpack(packed: dict[str, str]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["data"]), f"<{packed['type']}")


def test_numbers_are_those_of_the_scores(tmp_path: Path) -> None:
    record(tmp_path / "a.zarr")
    cnatool.report(tmp_path / "a.zarr", tmp_path / "a.html")
    view = read(tmp_path / "a.html").blocks["view-0"]
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
    cnatool.report(store, tmp_path / "a.html", max_samples=50)
    samples = read(tmp_path / "a.html").blocks["view-0"]["samples"]
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
    cnatool.report(store, tmp_path / "a.html")
    blocks = read(tmp_path / "a.html").blocks
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
    written = cnatool.report(tmp_path / "a.zarr", tmp_path / "a.html", max_samples=90)
    splits = read(tmp_path / "a.html").blocks["view-0"]["samples"]["splits"]
    assert [(s["name"], s["shown"], s["total"]) for s in splits] == [
        ("train", 40, 100),
        ("test", 10, 10),
        ("validation", 40, 100),
    ]
    assert any("90 of 210 samples are shown" in note for note in written.notes)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    tensors = [f"{HOSTILE}{number}" for number in range(4)]
    record(tmp_path / "a.zarr", tensors=tensors, tags={HOSTILE: HOSTILE})
    (tmp_path / "a.zarr").rename(tmp_path / "<b>&amp;.zarr")
    cnatool.report(tmp_path / "<b>&amp;.zarr", tmp_path / "a.html", title=HOSTILE)
    text = (tmp_path / "a.html").read_text("utf-8")
    page = read(tmp_path / "a.html")
    assert "img" not in page.tags
    assert text.count("<script") == 2 + len(page.blocks) - 1
    assert HOSTILE not in text
    assert any(HOSTILE in fact["text"] for fact in page.blocks["view-0"]["facts"])


def test_nothing_can_be_fetched(tmp_path: Path) -> None:
    record(tmp_path / "a.zarr")
    cnatool.report(tmp_path / "a.zarr", tmp_path / "a.html")
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
    cnatool.report(tmp_path / "a.zarr", tmp_path / "a.html")
    view = read(tmp_path / "a.html").blocks["view-0"]
    assert reason in json.dumps(view["score"])
    assert view["samples"]["alpha"] is not None


def test_one_layer_has_no_profile(tmp_path: Path) -> None:
    record(tmp_path / "a.zarr", tensors=["one", "out"])
    cnatool.report(tmp_path / "a.zarr", tmp_path / "a.html")
    view = read(tmp_path / "a.html").blocks["view-0"]
    assert view["layers"] is None
    assert "two layers" in view["layers_reason"]
    assert view["samples"]["beta"] is None
    assert [step["counted"] for step in view["network"]] == [0, None]


def test_a_store_that_cannot_be_scored_still_has_a_page(tmp_path: Path) -> None:
    record(tmp_path / "a.zarr")
    cnatool.report(tmp_path / "a.zarr", tmp_path / "a.html", overrides={"layers": "linear"})
    cnatool.report(
        tmp_path / "a.zarr", tmp_path / "b.html", overrides={"alpha": "compression", "codec": "png"}
    )
    store = record(tmp_path / "c.zarr")
    cnatool.report(store, tmp_path / "c.html", overrides={"range": "0:0.5"})
    view = read(tmp_path / "c.html").blocks["view-0"]
    assert view["score"] is None
    assert "outside" in view["score_reason"]
    assert len(view["network"]) == 4


def test_several_stores_and_their_study(tmp_path: Path) -> None:
    for number in range(4):
        record(tmp_path / f"stores/{number}.zarr", tags={"width": str(number)})
    cnatool.study(tmp_path / "stores", folder=tmp_path / "study", resamples=0)
    cnatool.report([tmp_path / "study", tmp_path / "stores"], tmp_path / "a.html")
    blocks = read(tmp_path / "a.html").blocks
    study = blocks["view-0"]
    assert study["kind"] == "study"
    assert study["stores"] == [1, 2, 3, 4]
    assert [blocks[f"view-{n}"]["name"] for n in study["stores"]] == study["ids"]
    assert len([name for name in blocks if name.startswith("pictures-")]) == 1
    column = next(c for c in study["columns"] if c["name"] == "test.cna")
    cna = [blocks[f"view-{n}"]["score"]["splits"]["test"]["cna"]["value"] for n in range(1, 5)]
    assert np.allclose(unpack(column["values"]), cna, rtol=1e-6)


def test_stores_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    record(tmp_path / "stores/good.zarr")
    (tmp_path / "stores/bad.zarr").mkdir()
    written = cnatool.report(tmp_path / "stores", tmp_path / "a.html")
    assert [Path(store.path).name for store in written.not_scored] == ["bad.zarr"]
    assert len(read(tmp_path / "a.html").blocks) == 2


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


def test_colours_are_those_of_the_figures() -> None:
    styles = (Path(cnatool.__file__).parent / "page/assets/base.css").read_text("utf-8")
    first = [re.search(rf"--c{k}: (#\w+)", styles)[1].upper() for k in range(4)]  # type: ignore[index]
    assert first == list(COLOURS[:4])
