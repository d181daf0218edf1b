"""HTML as a browser reads it: tables by rows, all text, and what would run or load something."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

_VOID = {"br", "circle", "img", "line", "polyline", "rect"}
# A name that is markup where it is not escaped, and one with characters that cannot be seen.
EVIL = "<script>alert(1)</script>\"'&amp;</td></svg>"
HIDDEN = "a\u202eb"


class Page(HTMLParser):
    """The parts of a document; AssertionError if an element is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data


def shown(thing: Any) -> Page:
    """Parse what a notebook shows of an object: small, the same each time, and harmless."""
    text = thing._repr_html_()
    assert text == thing._repr_html_()
    assert len(text.encode()) < 50_000
    page = Page(text)
    assert not page.tags & {"script", "img", "iframe", "link", "object", "a", "foreignobject"}
    assert not {name for name in page.attributes if name.startswith("on")}
    assert not page.attributes & {"href", "src", "xlink:href"}
    assert "\u202e" not in text
    assert len(repr(thing)) < 1000
    return page
