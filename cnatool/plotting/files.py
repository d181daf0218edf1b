"""Charts to files: PNG, SVG, PDF, a page that needs nothing else, or the specification itself."""

from __future__ import annotations

import html
import io
import json
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cnatool._util.files import replace_atomically
from cnatool._util.text import escape
from cnatool.errors import StoreWriteError, UsageError

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cnatool.plotting.style import Chart

_INCH = 96  # of the chart's pixels
_MOST_PIXELS = 100_000_000  # 400 MB while it is drawn
# Nothing may be fetched and nothing sent; Vega compiles its expressions.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:"
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>body {{ margin: 24px; background: white; }}</style>
</head>
<body>
<div id="chart"></div>
<script>{library}</script>
<script>
vegaEmbed("#chart", {chart}, {{renderer: "svg", actions: {{export: true, source: false, \
compiled: false, editor: false}}}});
</script>
</body>
</html>
"""


def check_picture_path(path: Path) -> None:
    """Make sure that `write_picture` can write to a path."""
    if path.suffix not in _FORMATS:
        raise UsageError(f"-o {path}: the name must end in one of {', '.join(_FORMATS)}.")
    if not path.parent.is_dir():
        raise UsageError(f"-o {path}: no such folder.")
    if path.is_dir():
        raise UsageError(f"-o {path}: this is a folder. Name a file.")


def write_picture(chart: Chart, path: Path, *, scale: float = 2) -> None:
    """Write a chart in the format of the file's name; the same chart gives the same bytes."""
    check_picture_path(path)
    content = _FORMATS[path.suffix](_escaped(chart.to_dict()), scale)
    try:
        with replace_atomically(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise StoreWriteError(
            f"{path} cannot be written: {error.strerror or error}. Name another file with -o."
        ) from error


def _escaped(part: Any) -> Any:
    """Escape hidden characters in all texts of a chart: titles, labels, data and field names."""
    if isinstance(part, str):
        return "\n".join(map(escape, part.split("\n")))
    if isinstance(part, dict):
        return {_escaped(key): _escaped(value) for key, value in part.items()}
    return [_escaped(one) for one in part] if isinstance(part, list) else part


def _png(chart: dict[str, Any], scale: float) -> bytes:
    from PIL import Image

    svg = _svg(chart, scale)
    width, height = (round(float(side) * scale) for side in _sides(svg))
    if width * height > _MOST_PIXELS:
        raise UsageError(
            f"this picture would be {width:,} × {height:,} pixels large: make --scale, --width or "
            "--height less, or write an .svg."
        )
    drawn = need_converter().svg_to_png(svg.decode(), scale=scale)
    # The converter's own file is more than twice as large, and does not say how large it is meant.
    small = io.BytesIO()
    with Image.open(io.BytesIO(drawn)) as picture:
        picture.convert("RGB").save(small, "PNG", optimize=True, dpi=(_INCH * scale,) * 2)
    return small.getvalue()


def _sides(svg: bytes) -> tuple[str, str]:
    """Give width and height of a drawing of the converter's."""
    found = re.search(rb'<svg\b[^>]*? width="([0-9.]+)" height="([0-9.]+)"', svg)
    if found is None:
        raise AssertionError("a drawing without a size")
    return found[1].decode(), found[2].decode()


def _svg(chart: dict[str, Any], scale: float) -> bytes:
    found: str = need_converter().vegalite_to_svg(chart, allowed_base_urls=[])
    return found.encode()


def _pdf(chart: dict[str, Any], scale: float) -> bytes:
    found: bytes = need_converter().vegalite_to_pdf(chart, allowed_base_urls=[])
    return found


def _html(chart: dict[str, Any], scale: float) -> bytes:
    title = chart.get("title", {}).get("text", "cnatool")
    # Within a script, "</script>" in a name would end it, and "<!--" change how the rest is read.
    inert = json.dumps(chart, ensure_ascii=True, sort_keys=True).replace("<", "\\u003c")
    return _PAGE.format(
        policy=html.escape(_POLICY),
        title=html.escape(str(title)),
        library=need_converter().javascript_bundle(),
        chart=inert,
    ).encode()


def _json(chart: dict[str, Any], scale: float) -> bytes:
    return (json.dumps(chart, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()


_FORMATS: Mapping[str, Callable[[dict[str, Any], float], bytes]] = {
    ".png": _png,
    ".svg": _svg,
    ".pdf": _pdf,
    ".html": _html,
    ".json": _json,
}


def need_altair() -> None:
    """Make sure that Altair is there."""
    _needed("altair", "Altair")


def need_converter() -> types.ModuleType:
    """Give vl-convert, which turns charts into files.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    return _needed("vl_convert", "vl-convert-python")


def _needed(module: str, name: str) -> types.ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UsageError(
            f"pictures need {name}, which is not installed: python -m pip install 'cnatool[plot]'"
        ) from None
