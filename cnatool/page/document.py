"""The page as one HTML file: frame, styles, scripts and data, none of which is fetched."""

from __future__ import annotations

import html
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cnatool._util.documents import Document
    from cnatool.page.pictures import Pictures

# In the order of inclusion: constants are defined before they are used.
_STYLES = ("base.css", "charts.css", "tables.css", "print.css")
_SCRIPTS = (
    "dom.js",
    "format.js",
    "data.js",
    "theme.js",
    "scale.js",
    "axes.js",
    "selection.js",
    "marks.js",
    "scatter.js",
    "tables.js",
    "headline.js",
    "cloud.js",
    "profile.js",
    "groups.js",
    "margins.js",
    "card.js",
    "chosen.js",
    "drawing.js",
    "network.js",
    "layers.js",
    "about.js",
    "store.js",
    "networks.js",
    "network-card.js",
    "correlations.js",
    "study.js",
    "main.js",
)


def render_page(
    title: str, views: Sequence[Document], pictures: Mapping[str, Pictures], maker: str
) -> bytes:
    """Render a page; the same views give the same bytes.

    Data are JSON in blocks that are not executed, and a policy in the page forbids to fetch or
    send anything, and to run any script but this one.
    """
    style = "\n".join(map(_read, _STYLES))
    script = '"use strict";\n(() => {\n' + "\n".join(map(_read, _SCRIPTS)) + "\n})();"
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    blocks = [_block(f"view-{n}", _compact(view)) for n, view in enumerate(views)]
    blocks += [
        _block(f"pictures-{key}", msgspec.json.encode(pictures[key])) for key in sorted(pictures)
    ]
    replacements = {
        "policy": html.escape(policy),
        "title": html.escape(title),
        "maker": html.escape(maker),
        "style": style,
        "data": "\n".join(blocks),
        "script": script,
    }
    page = _read("frame.html")
    for name, text in replacements.items():
        before, mark, after = page.partition(f"<!--{name}-->")
        assert mark, f"the frame has no place for {name}"
        page = f"{before}{text}{after}"
    return page.encode()


def _compact(view: Document) -> bytes:
    return msgspec.json.format(view.to_json().encode(), indent=-1)


def _block(name: str, content: bytes) -> str:
    # In a script, "</script>" in a name would end it, and "<!--" change how the rest is parsed.
    text = content.decode().replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


def _digest(text: str) -> str:
    """Return the source of a policy that allows one inline text."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode('ascii')}"


def _read(name: str) -> str:
    return files("cnatool.page").joinpath("assets", name).read_text("utf-8")
