"""Stores for pages, pages read back, and a browser to open them in."""

from __future__ import annotations

import base64
import html.parser
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnatool

CLASSES = 4
HOSTILE = "</script><img src=x onerror=alert(1)><!--"
# Intervals take most of the time of a page, and few tests are about them.
QUICK = {"resamples": 0, "area_resamples": 0, "permutations": 0}


def record(
    path: Path,
    *,
    rows: dict[str, int] | None = None,
    labels: bool = True,
    tensors: tuple[str, ...] = ("one", "two", "three", "out"),
    seed: int = 0,
    **options: Any,
) -> cnatool.Store:
    """Record a network over pictures of noise; the last tensor is its output.

    Networks of other seeds see the same pictures.
    """
    network, rng = np.random.default_rng(seed), np.random.default_rng(0)
    path.parent.mkdir(exist_ok=True)
    *hidden, output = tensors
    layers = [cnatool.Layer(name, operator="Gemm", output=name == output) for name in tensors]
    with cnatool.create_store(
        path, tensors=tensors, outputs=[output], layers=layers, **options
    ) as recording:
        for split, count in (rows or {"train": 120, "test": 120}).items():
            scores = network.normal(size=(count, CLASSES)).astype(np.float32)
            values = {
                name: network.normal(depth, 1, (count, 8)).astype(np.float32)
                for depth, name in enumerate(hidden)
            }
            pixels = rng.random((count, 6, 5)) ** rng.uniform(1, 40, (count, 1, 1)) * 255
            recording.append(
                split,
                inputs=pixels.astype(np.uint8),
                labels=rng.integers(0, CLASSES, count) if labels else None,
                outputs=scores,
                activations=values | {output: scores},
            )
    return cnatool.open(path)


class Blocks(html.parser.HTMLParser):
    """Blocks of JSON of a page, and the names of all tags."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.blocks: dict[str, Any] = {}
        self.tags: set[str] = set()
        self._open: str | None = None
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        attributes = dict(attrs)
        self._open = attributes.get("id") if "json" in (attributes.get("type") or "") else None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.blocks[self._open] = json.loads(data)
            self._open = None


def unpack(packed: dict[str, str]) -> np.ndarray:
    """Turn a packed array back into numbers."""
    return np.frombuffer(base64.b64decode(packed["data"]), f"<{packed['type']}")


@contextmanager
def chromium() -> Iterator[Any]:
    """Start Chromium; skip where there is none, or nothing to drive it with."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright drives the browser")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if program is None:
        pytest.skip("there is no Chromium to open pages in")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu", "--no-first-run"]
        )
        yield browser
        browser.close()
