"""The site: all its links lead somewhere, and it needs no network."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "tools" / "build_site.py"
# Attributes by which a browser fetches something without being asked.
FETCHING = {
    ("audio", "src"),
    ("iframe", "src"),
    ("img", "src"),
    ("img", "srcset"),
    ("link", "href"),
    ("script", "src"),
    ("source", "src"),
    ("video", "src"),
}


class Page(HTMLParser):
    """What a built page fetches, links to, and can be linked to by."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.anchors = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif (tag, name) in FETCHING and value:
                self.fetched.append(value)
            elif (tag, name) == ("a", "href") and value:
                self.links.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("zensical", reason="the site: pip install 'cnatool[docs]'")
    folder = tmp_path_factory.mktemp("built") / "site"
    built = subprocess.run([sys.executable, SCRIPT, "-o", folder], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_link_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for link in {*page.links, *page.fetched}:
            if ":" in link.partition("/")[0] or path.name == "404.html":
                continue
            target, _, anchor = unquote(link).partition("#")
            reached = (path.parent / target).resolve() if target else path
            where = f"{path.relative_to(site)} links to {link}"
            assert reached.exists(), where
            if reached in pages:
                assert anchor in pages[reached].anchors or anchor.startswith("__"), where


def test_nothing_is_fetched_from_outside(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for link in page.fetched:
            assert not re.match(r"(\w+:)?//", link), f"{path.relative_to(site)} fetches {link}"
    for sheet in site.rglob("*.css"):
        for link in re.findall(r"url\(([^)]*)\)|@import\s+([^;]*);", sheet.read_text("utf-8")):
            assert not re.match(r"['\"]?(\w+:)?//", "".join(link)), f"{sheet.name} fetches {link}"


def test_every_page_is_in_the_navigation() -> None:
    config = tomllib.loads((ROOT / "docs" / "zensical.toml").read_text("utf-8"))
    listed = {*_list_pages(config["project"]["nav"])}
    expected = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")}
    assert expected - listed == set(), "add these pages to nav in docs/zensical.toml"
    assert [page for page in listed if not (ROOT / page).exists()] == []


def _list_pages(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        for target in entry.values():
            yield from [target] if isinstance(target, str) else _list_pages(target)


def test_links_in_markdown_lead_to_files() -> None:
    """For readers of a clone or of a code host, where no site is built."""
    link = re.compile(r"\]\(([^()\s]+)\)")
    code = re.compile(r"^ *```.*?^ *```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")]:
        for target in link.findall(code.sub("", page.read_text("utf-8"))):
            path = unquote(target).partition("#")[0]
            if "://" not in target and path:
                assert (page.parent / path).exists(), f"{page.relative_to(ROOT)}: {target}"
