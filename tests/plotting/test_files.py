"""Files of pictures: they open, are the same each time, and names in them stay names."""

from __future__ import annotations

import html.parser
import io
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from support.charts import texts
from support.families import make_pictures
from support.networks import mlp, saved

import cnatool

pytest.importorskip("altair", reason="pictures are drawn with Altair")
pytest.importorskip("vl_convert", reason="pictures are written by vl-convert")

from cnatool.plotting.files import check_picture_path, write_picture

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
# Ends a text in an expression where quotes are escaped and backslashes are not.
BROKEN = 'x.y[0]\\"+data("source_0")+"'
# Of a PDF the order of glyphs varies.
REPRODUCIBLE = ("png", "svg", "html", "json")


@pytest.fixture(scope="module")
def study() -> cnatool.Study:
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=40) for name in ("test.accuracy", "gap", "train.cna")}
    tags = [HOSTILE, "\x1b[31m\x00red", "a\nb", "c", "{{x}}"]
    frame = pl.DataFrame(
        {
            "id": [f"<b>{number}</b>" for number in range(40)],
            "kind": [tags[number % 5] for number in range(40)],
            **columns,
            HOSTILE: rng.normal(size=40),
            BROKEN: rng.normal(size=40),
            "\x07": rng.normal(size=40),
        }
    )
    return cnatool.study(frame=frame, resamples=0)


def hostile_charts(study: cnatool.Study) -> list[Any]:
    odd = [HOSTILE, BROKEN, "\x07", "train.cna"]
    return [
        cnatool.plot(study, "gap", measure=odd, by="kind"),
        cnatool.plot(study, "bins", measure=odd, by="kind"),
        cnatool.plot(study, "measures"),
    ]


class Elements(html.parser.HTMLParser):
    """Collects a page's elements with their attributes, and what its scripts say."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script":
            self.scripts[-1] += data


def written(chart: Any, folder: Path, ending: str, **options: Any) -> bytes:
    path = folder / f"picture.{ending}"
    write_picture(chart, path, **options)
    assert [other.name for other in folder.iterdir()] == [path.name]
    content = path.read_bytes()
    path.unlink()
    return content


def test_png_opens(study: cnatool.Study, tmp_path: Path) -> None:
    chart = cnatool.plot(study, "bins", width=200, height=100)
    sizes = []
    for scale in (1.0, 3.0):
        with Image.open(io.BytesIO(written(chart, tmp_path, "png", scale=scale))) as picture:
            picture.load()
            sizes.append(picture.size)
            assert picture.info["dpi"] == pytest.approx((96 * scale, 96 * scale), abs=0.1)
            # Not blank: ink and paper.
            low, high = picture.convert("L").getextrema()
            assert (low < 60, high) == (True, 255)
    assert sizes[1] == pytest.approx((3 * sizes[0][0], 3 * sizes[0][1]), abs=2)
    assert 200 < sizes[0][0] < 320
    assert 100 < sizes[0][1] < 320


def test_names_stay_names_in_svg(study: cnatool.Study, tmp_path: Path) -> None:
    for chart in hostile_charts(study):
        root = ET.fromstring(written(chart, tmp_path, "svg"))
        kinds = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert kinds <= {"svg", "g", "path", "rect", "text", "line", "defs", "clipPath", "tspan"}
        attributes = {name for element in root.iter() for name in element.attrib}
        assert not any(name.startswith("on") or "href" in name for name in attributes)
        said = "".join(root.itertext())
        assert "</script><script>" in said


def test_names_stay_names_in_a_page(study: cnatool.Study, tmp_path: Path) -> None:
    for chart in hostile_charts(study):
        page = written(chart, tmp_path, "html").decode()
        elements = Elements(page)
        kinds = [tag for tag, _ in elements.found]
        assert sorted(kinds) == sorted(
            ["html", "head", *["meta"] * 3, "title", "style", "body", "div", "script", "script"]
        )
        # Nothing is fetched: no element has a source, and the page forbids it besides.
        for _, attributes in elements.found:
            assert not {"src", "href", "data"} & set(attributes)
        (policy,) = (a["content"] for _, a in elements.found if "http-equiv" in a)
        assert policy.startswith("default-src 'none';")
        assert "http" not in policy
        # What is drawn is the chart, whole.
        drawn = re.search(r'vegaEmbed\("#chart", (\{.*\}), \{renderer', elements.scripts[1])[1]
        assert json.loads(drawn) == chart.to_dict()
        assert "<" not in drawn


def _values(node: Any, key: str) -> list[Any]:
    """Everything under a key, anywhere."""
    if isinstance(node, list):
        return [found for one in node for found in _values(one, key)]
    if not isinstance(node, dict):
        return []
    inner = [found for one in node.values() for found in _values(one, key)]
    return [node[key], *inner] if key in node else inner


def test_fields_of_the_chart_are_ours(study: cnatool.Study) -> None:
    # Vega reads "a.b[0]" in the name of a field as a path, and "datum.x" in an expression.
    for chart in hostile_charts(study):
        spec = chart.to_dict()
        fields = set(re.findall(r'"field": "([^"]*)"', json.dumps(spec)))
        assert fields
        assert all(re.fullmatch(r"[a-z0-9_]+", field) for field in fields)
        titles = [
            str(found)
            for encoding in _values(spec, "encoding")
            for key in ("title", "sort")
            for found in _values(encoding, key)
        ]
        assert not any("\\" in title for title in titles)
        assert not re.search(r'"(signal|expr|calculate|href|url)"', json.dumps(spec))
        assert not any("\x07" in text or "\x1b" in text for text in texts(spec))
        assert not re.search(r"\\u00[01]", json.dumps(spec))


def test_names_of_stores_and_tensors_stay_names(tmp_path: Path) -> None:
    data = make_pictures(tmp_path / "data")
    name = "<img src=x onerror=alert(1)>"
    model = mlp()
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, one in enumerate(names):
                if one.startswith("fc") and "." not in one:
                    names[place] = f"</script>{one}"
    saved(model, tmp_path / "net.onnx")
    stores = [tmp_path / f"{name}{number}.zarr" for number in range(2)]
    for store in stores:
        cnatool.dump(tmp_path / "net.onnx", data, store, keep="statistics")
    out = tmp_path / "out"
    out.mkdir()
    for figure in ("depth-profile", "alpha-beta", "error-by-alpha"):
        chart = cnatool.plot(stores, figure)
        page = Elements(written(chart, out, "html").decode())
        assert {"img", "script"} & {tag for tag, _ in page.found} == {"script"}
        assert len(page.scripts) == 2
        root = ET.fromstring(written(chart, out, "svg"))
        assert name in "".join(root.itertext())


def test_the_same_chart_gives_the_same_bytes(tmp_path: Path) -> None:
    code = """if True:
        import sys, numpy as np, polars as pl, cnatool, pathlib
        from cnatool.plotting.files import write_picture
        rng = np.random.default_rng(0)
        names = ("test.accuracy", "gap", "train.cna", "cna_area")
        columns = {name: rng.normal(size=60) for name in names}
        ids, arch = range(60), rng.choice(["a", "b", "c"], 60)
        study = cnatool.study(frame=pl.DataFrame({"id": ids, "arch": arch, **columns}), resamples=0)
        chart = cnatool.plot(study, "bins", by="arch")
        for path in sys.argv[1:]:
            write_picture(chart, pathlib.Path(path))
    """
    pictures = []
    for seed in ("1", "2"):
        paths = [tmp_path / f"{seed}.{ending}" for ending in REPRODUCIBLE]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(
            [sys.executable, "-c", code, *paths], check=True, env=environment, timeout=600
        )
        pictures.append({path.suffix: path.read_bytes() for path in paths})
    for ending, picture in pictures[0].items():
        assert picture == pictures[1][ending], ending


def test_pdf(study: cnatool.Study, tmp_path: Path) -> None:
    content = written(cnatool.plot(study, "measures"), tmp_path, "pdf")
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    box = re.search(rb"/MediaBox \[0 0 ([0-9.]+) ([0-9.]+)\]", content)
    assert box is not None
    drawing = written(cnatool.plot(study, "measures"), tmp_path, "svg").decode()
    sides = re.search(r'<svg\b[^>]*? width="([0-9.]+)" height="([0-9.]+)"', drawing)
    assert sides is not None
    width, height = map(float, box.groups())
    assert width / height == pytest.approx(float(sides[1]) / float(sides[2]), rel=0.01)


def test_a_page_fits_a_narrow_screen(study: cnatool.Study, tmp_path: Path) -> None:
    page = Elements(written(cnatool.plot(study, "measures"), tmp_path, "html").decode())
    metas = [attributes for tag, attributes in page.found if tag == "meta"]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas


def test_json_is_the_chart(study: cnatool.Study, tmp_path: Path) -> None:
    chart = cnatool.plot(study, "measures")
    assert json.loads(written(chart, tmp_path, "json")) == chart.to_dict()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("a.gif", r"`path` .*a.gif: the name must end in one of .png, .svg, .pdf, .html, .json\."),
        ("a", "the name must end in"),
        ("none/a.png", r"`path` .*none/a.png: no such folder\."),
        ("taken.png", r"`path` .*taken.png: this is a folder\."),
    ],
)
def test_where_no_picture_can_go(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(cnatool.UsageError, match=message):
        check_picture_path(tmp_path / path)


def test_what_the_system_refuses(study: cnatool.Study, tmp_path: Path) -> None:
    chart = cnatool.plot(study, "measures")
    with pytest.raises(cnatool.StoreWriteError, match=r"cannot be written: .*\. Name another file"):
        write_picture(chart, tmp_path / ("x" * 250 + ".json"))
