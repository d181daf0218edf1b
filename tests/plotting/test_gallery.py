"""The page about pictures against what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("altair", reason="pictures are drawn with Altair")

from cnatool.plotting.table import FIGURES

DOCS = Path(__file__).parents[2] / "docs"


def test_every_figure_is_in_the_docs_with_its_picture() -> None:
    page = (DOCS / "plots.md").read_text("utf-8")
    for figure in {row.name for row in FIGURES}:
        assert f"| `{figure}` |" in page
        assert re.search(rf"--figure {figure} .*-o {figure}\.png", page)
        picture = DOCS / f"pictures/{figure}.png"
        assert f"(pictures/{figure}.png)" in page
        assert picture.stat().st_size < 80_000
        with Image.open(picture) as opened:
            opened.verify()
    pages = "".join(one.read_text("utf-8") for one in DOCS.rglob("*.md"))
    for path in (DOCS / "pictures").glob("*.png"):
        assert f"pictures/{path.name}" in pages
