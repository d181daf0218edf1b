"""Charts written to files: PNG, SVG, PDF, a self-contained page, or Vega-Lite JSON."""

from __future__ import annotations

import html
import io
import json
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cnatool._util.files import replace_atomically
from cnatool._util.text import escape
from cnatool._util.write_failures import make_write_error
from cnatool.errors import UsageError

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cnatool.plotting.style import Chart

_INCH = 96  # pixels of the chart
_MOST_PIXELS = 100_000_000  # 400 MB while it is drawn
# Nothing may be fetched or sent. Vega compiles its expressions.
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
    """Raise `UsageError` if `write_picture` cannot write to a path."""
    if path.suffix not in _FORMATS:
        raise UsageError(f"`path` {path}: the name must end in one of {', '.join(_FORMATS)}.")
    if not path.parent.is_dir():
        raise UsageError(f"`path` {path}: no such folder.")
    if path.is_dir():
        raise UsageError(f"`path` {path}: this is a folder. Name a file.")


def write_picture(chart: Chart, path: Path, *, scale: float = 2) -> None:
    """Write a chart in the format of the file's suffix; the same chart gives the same bytes."""
    check_picture_path(path)
    content = _FORMATS[path.suffix](_escape(chart.to_dict()), scale)
    try:
        with replace_atomically(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise make_write_error(path, error) from error


def _escape(part: Any) -> Any:
    """Escape hidden characters in all texts of a chart: titles, labels, data and field names."""
    if isinstance(part, str):
        return "\n".join(map(escape, part.split("\n")))
    if isinstance(part, dict):
        return {_escape(key): _escape(value) for key, value in part.items()}
    return [_escape(item) for item in part] if isinstance(part, list) else part


def _encode_png(chart: dict[str, Any], scale: float) -> bytes:
    from PIL import Image

    svg = _encode_svg(chart, scale)
    width, height = (round(float(side) * scale) for side in _read_size(svg))
    if width * height > _MOST_PIXELS:
        raise UsageError(
            f"this picture would be {width:,} × {height:,} pixels large: reduce `scale`, `width` "
            "or `height`, or write an .svg."
        )
    drawn = import_converter().svg_to_png(svg.decode(), scale=scale)
    # The converter's own file is more than twice as large, and has no resolution.
    small = io.BytesIO()
    with Image.open(io.BytesIO(drawn)) as picture:
        picture.convert("RGB").save(small, "PNG", optimize=True, dpi=(_INCH * scale,) * 2)
    return small.getvalue()


def _read_size(svg: bytes) -> tuple[str, str]:
    """Read width and height of an SVG that the converter wrote."""
    size = re.search(rb'<svg\b[^>]*? width="([0-9.]+)" height="([0-9.]+)"', svg)
    if size is None:
        raise AssertionError("an SVG without a size")
    return size[1].decode(), size[2].decode()


def _encode_svg(chart: dict[str, Any], scale: float) -> bytes:
    svg: str = import_converter().vegalite_to_svg(chart, allowed_base_urls=[])
    return svg.encode()


def _encode_pdf(chart: dict[str, Any], scale: float) -> bytes:
    pdf: bytes = import_converter().vegalite_to_pdf(chart, allowed_base_urls=[])
    return pdf


def _encode_html(chart: dict[str, Any], scale: float) -> bytes:
    title = chart.get("title", {}).get("text", "cnatool")
    # In a script, "</script>" in a name would end it, and "<!--" change how the rest is parsed.
    specification = json.dumps(chart, ensure_ascii=True, sort_keys=True).replace("<", "\\u003c")
    return _PAGE.format(
        policy=html.escape(_POLICY),
        title=html.escape(str(title)),
        library=import_converter().javascript_bundle(),
        chart=specification,
    ).encode()


def _encode_json(chart: dict[str, Any], scale: float) -> bytes:
    return (json.dumps(chart, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()


_FORMATS: Mapping[str, Callable[[dict[str, Any], float], bytes]] = {
    ".png": _encode_png,
    ".svg": _encode_svg,
    ".pdf": _encode_pdf,
    ".html": _encode_html,
    ".json": _encode_json,
}


def check_altair() -> None:
    """Raise `UsageError` if Altair is not installed."""
    _import("altair", "Altair")


def import_converter() -> types.ModuleType:
    """Import vl-convert, which turns charts into files; raise `UsageError` if not installed."""
    return _import("vl_convert", "vl-convert-python")


def _import(module: str, name: str) -> types.ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UsageError(
            f"pictures need {name}, which is not installed: python -m pip install 'cnatool[plot]'"
        ) from None
