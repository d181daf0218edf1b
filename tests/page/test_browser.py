"""Pages in a real browser: what a reader points at, selects, hears, prints, and never runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.pages import HOSTILE, QUICK, chromium, record

import cnatool

CARD = "#sample"
RING = ".explore .plot circle.now"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    record(folder / "a.zarr", rows={"train": 240, "test": 120})
    cnatool.report(folder / "a.zarr", folder / "a.html", overrides=QUICK)
    for number in range(4):
        record(folder / f"stores/{number}.zarr", seed=number, tags={"width": str(number % 2)})
    cnatool.study(folder / "stores", folder=folder / "study", resamples=0, overrides=QUICK)
    cnatool.report([folder / "study", folder / "stores"], folder / "study.html", overrides=QUICK)
    evil = tuple(f"{HOSTILE}{number}" for number in range(4))
    record(folder / "evil.zarr", tensors=evil, tags={HOSTILE: HOSTILE}, labels=False)
    cnatool.report(folder / "evil.zarr", folder / "evil.html", title=HOSTILE, overrides=QUICK)
    return folder


@pytest.fixture
def opened(browser: Any, here: Path) -> Iterator[Any]:
    """Open pages, and check in the end that none had an error or asked for anything."""
    contexts, troubles = [], []

    def visit(name: str, width: int = 1400, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text))
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(("file://", "data:image/"))
                else troubles.append(request.url)
            ),
        )
        page.goto((here / name).as_uri())
        page.locator("html[data-ready=all]").wait_for(state="attached")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert troubles == []


def samples(here: Path) -> pl.DataFrame:
    """Return the samples by rising α, as exactly as the page has it."""
    frame = cnatool.score_samples(here / "a.zarr", overrides=QUICK)
    return frame.sort(pl.col("alpha").cast(pl.Float32), maintain_order=True)


def pad(page: Any) -> Any:
    return page.locator(".pad").first


def drag(page: Any, x: tuple[float, float], y: tuple[float, float] = (0.0, 1.0)) -> None:
    """Drag over a part of the cloud, in shares of its width and height."""
    pad(page).scroll_into_view_if_needed()
    box = pad(page).bounding_box()
    corners = [
        (box["x"] + 1 + (box["width"] - 2) * a, box["y"] + 1 + (box["height"] - 2) * b)
        for a, b in zip(x, y, strict=True)
    ]
    page.mouse.move(*corners[0])
    page.mouse.down()
    page.mouse.move(*corners[1], steps=4)
    page.mouse.up()


def test_the_keyboard_walks_through_samples(opened: Any, here: Path) -> None:
    page, frame = opened("a.html"), samples(here)
    pad(page).focus()
    for key, row in (("Home", 0), ("ArrowRight", 1), ("End", len(frame) - 1), ("ArrowLeft", -2)):
        page.keyboard.press(key)
        place = frame.row(row, named=True)
        assert f"{place['split']}, row {place['id']}" in page.locator(CARD).inner_text()
        assert f"sample {place['id']} of {place['split']}" in page.locator("#live").inner_text()
    page.keyboard.press("Escape")
    assert page.locator(CARD).inner_text().startswith("Point at a sample")
    assert page.locator(RING).count() == 0


def test_what_is_pointed_at_shows_in_every_chart(opened: Any) -> None:
    page = opened("a.html")
    pad(page).focus()
    page.keyboard.press("Home")
    pinned = page.locator(CARD).inner_text()
    ring = page.locator(RING)
    x, y = (float(ring.get_attribute(name)) for name in ("cx", "cy"))
    page.keyboard.press("Escape")
    assert page.locator("path.now, line.now").count() == 0
    pad(page).hover(position={"x": x, "y": y})
    assert page.locator(CARD).inner_text() == pinned
    # The cloud, the profile, error by α, margins, and a tick for each of three layers.
    charts = [".explore .plot", ".trio .plot", ".net"]
    assert [page.locator(f"{chart} .now").count() for chart in charts] == [2, 2, 3]
    page.mouse.move(5, 5)
    assert page.locator(".now").count() == 0


def test_a_brush_selects_in_every_chart(opened: Any, here: Path) -> None:
    page, frame = opened("a.html"), samples(here)
    ticks = page.locator(".explore .plot").first.locator("svg").first.locator("text").all()
    texts = {tick.inner_html(): tick for tick in ticks if tick.get_attribute("text-anchor")}
    places = {
        float(text): float(tick.get_attribute("x"))
        for text, tick in texts.items()
        if re.fullmatch(r"\d+(\.\d+)?", text) and tick.get_attribute("text-anchor") == "middle"
    }
    (a, x), (b, u) = sorted(places.items())[:: len(places) - 1]
    width = pad(page).bounding_box()["width"]
    drag(page, (0.0, 0.5))
    edge = a + (b - a) * ((1 + (width - 2) * 0.5) - x) / (u - x)
    inside = frame.filter(pl.col("alpha") <= edge)
    heading = page.locator("#chosen h3").inner_text()
    count = int(heading.split()[0])
    assert abs(count - len(inside)) <= 2
    table = page.locator("#chosen table").inner_text()
    if count == len(inside):
        accuracy = (inside["label"] == inside["prediction"]).mean()
        assert f"{100 * accuracy:.2f} %" in table
        assert f"in test\t{(inside['split'] == 'test').sum()}\t120" in table
    for chart in (".explore .plot", ".trio .plot >> nth=0", ".trio .plot >> nth=1", ".net"):
        assert page.locator(f"{chart} >> .set").count() >= 1
    page.keyboard.press("Escape")
    assert page.locator(".set").count() == 0
    assert page.locator("#chosen h3").inner_text() == "At the extremes"


def test_the_whole_cloud(opened: Any, here: Path) -> None:
    page, frame = opened("a.html"), samples(here)
    drag(page, (0.0, 1.0))
    assert page.locator("#chosen h3").inner_text() == "360 samples selected"
    accuracy = (frame["label"] == frame["prediction"]).mean()
    assert page.locator("#chosen table").inner_text().count(f"{100 * accuracy:.2f} %") == 2


def test_a_picture_leads_to_its_sample(opened: Any, here: Path) -> None:
    page, frame = opened("a.html"), samples(here)
    page.locator("#chosen select").select_option(label="smallest α")
    page.locator("#chosen .sheet button").first.click()
    first = frame.row(0, named=True)
    assert f"{first['split']}, row {first['id']}" in page.locator(CARD).inner_text()
    raw = cnatool.open(here / "a.zarr").splits[first["split"]].inputs()[int(first["id"])]
    page.locator("#sample canvas[width='5']").wait_for()
    page.wait_for_timeout(50)
    pixels = page.evaluate(
        "Array.from(document.querySelector('#sample canvas').getContext('2d')"
        ".getImageData(0, 0, 5, 6).data)"
    )
    assert pixels[::4] == raw.ravel().tolist()


def test_splits_can_be_hidden(opened: Any, here: Path) -> None:
    page = opened("a.html")
    page.get_by_role("group", name="Splits shown").get_by_text("train").click()
    drag(page, (0.0, 1.0))
    assert page.locator("#chosen h3").inner_text() == "120 samples selected"


def test_columns_are_sorted(opened: Any) -> None:
    page = opened("a.html")
    table = page.locator("#layers table")
    table.get_by_role("button", name="of CNA").click()
    cells = [
        float(text.replace("−", "-"))
        for text in table.locator("td:nth-child(10)").all_inner_texts()
    ]
    assert cells == sorted(cells, reverse=True)
    table.get_by_role("button", name="of CNA").click()
    assert table.locator("th").nth(9).get_attribute("aria-sort") == "ascending"


def test_hostile_names_stay_text(opened: Any) -> None:
    page = opened("evil.html")
    assert page.title() == HOSTILE
    assert page.locator("img").count() == 0
    assert HOSTILE in page.locator("#layers").inner_text()
    assert HOSTILE in page.locator("#about").inner_text()
    pad(page).focus()
    page.keyboard.press("Home")
    assert "no label" in page.locator(CARD).inner_text()
    assert "There is no error by α" in page.locator(".trio").inner_text()


def test_a_study_leads_to_its_networks(opened: Any) -> None:
    page = opened("study.html")
    pad(page).focus()
    page.keyboard.press("Home")
    name = page.locator("#network .who").inner_text()
    page.locator("#correlations tr", has_text="mean β (test)").click()
    assert page.locator(".plot text.title").first.inner_html() != ""
    assert "mean β (test)" in page.locator(".explore .plot svg").first.inner_html()
    drag(page, (0.0, 1.0))
    assert page.locator("#table tbody tr:visible").count() == 4
    page.keyboard.press("Escape")
    page.locator("#table td.name", has_text=name).click()
    page.locator("#network button.open").click()
    page.locator("#scores").wait_for()
    assert page.locator("h1").inner_text() == name
    assert page.locator("#scores").count() == 1
    page.locator("#views").select_option("0")
    assert page.locator("#correlations").count() == 1


def test_a_study_without_test_accuracy(opened: Any, here: Path) -> None:
    for number in range(3):
        record(here / f"train/{number}.zarr", rows={"train": 60}, seed=number)
    cnatool.study(here / "train", folder=here / "only", resamples=0, overrides=QUICK)
    cnatool.report(here / "only", here / "only.html", overrides=QUICK)
    text = opened("only.html").locator("#correlations").inner_text()
    assert "The study has no correlations with" in text


def test_numbers_have_their_significant_digits(browser: Any) -> None:
    script = files("cnatool.page").joinpath("assets/format.js").read_text("utf-8")
    values = [0.0042, 0.001, 0.00015, 0.05, 0.0098765, -0.12345, 3.0, 12.5, 999.96, 2.5e7]
    page = browser.new_page()
    for digits in (2, 4):
        texts = page.evaluate(
            f"(values) => {{{script}; return values.map((v) => number(v, {digits}))}}", values
        )
        read = [float(text.replace("−", "-").replace(",", "")) for text in texts]
        # Whole parts are never rounded to fewer digits than they have.
        assert np.allclose(read, values, rtol=0.5 * 10.0 ** (1 - digits))
    shares = page.evaluate(
        f"() => {{{script}; return [-1e-9, 0.1234, null].map((v) => percent(v))}}"
    )
    assert shares == ["0.0 %", "12.3 %", "–"]


def test_light_and_dark(opened: Any) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        page = opened("a.html", color_scheme=scheme)
        shades[scheme] = background(page)
        for name in ("ink", "soft", "accent"):
            assert contrast(page, name) >= 4.5, (scheme, name)
        page.locator("#theme").click()
        assert background(page) != shades[scheme]
    assert shades["light"] > shades["dark"]


def background(page: Any) -> tuple[int, ...]:
    return channels(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def channels(colour: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", colour)[:3]))


def contrast(page: Any, name: str) -> float:
    """Compute the contrast of a colour of the page with its background, as WCAG defines it."""
    code = page.evaluate(
        f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()"
    )
    front = tuple(int(code[i : i + 2], 16) for i in (1, 3, 5))

    def luminance(rgb: tuple[int, ...]) -> float:
        parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((luminance(front), luminance(background(page))))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["a.html", "study.html", "evil.html"])
@pytest.mark.parametrize("width", [1400, 800, 390])
def test_no_width_is_too_small(opened: Any, name: str, width: int) -> None:
    page = opened(name, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    columns = page.evaluate(
        "getComputedStyle(document.querySelector('.explore')).gridTemplateColumns.split(' ').length"
    )
    assert columns == (1 if width < 900 else 2)


def test_print_is_light_and_without_controls(opened: Any) -> None:
    page = opened("a.html", width=700, color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert min(background(page)) >= 250
    assert page.locator(".controls button:visible, select:visible, .pad:visible").count() == 0
    assert page.locator(".legend:visible").count() == 3
    edge = page.locator("#layers table").bounding_box()
    assert edge["x"] + edge["width"] <= 700
