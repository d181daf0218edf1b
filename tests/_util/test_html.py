"""Text in HTML stays text, and long tables and names are cut."""

from __future__ import annotations

from support.markup import EVIL, HIDDEN, Page

from cnatool._util.html import Markup, card, details, markup, notes, number, table


def test_text_is_escaped_once() -> None:
    page = Page(card(EVIL, [EVIL, ""], table([EVIL], "l", [[EVIL], [markup(EVIL)]]), notes([EVIL])))
    assert "script" not in page.tags
    assert page.tables == [[[EVIL], [EVIL], [EVIL]]]
    assert page.text.count(EVIL) == 6
    assert markup(markup("<")) == markup("<") == "&lt;"
    assert "\\u202e" in Page(card(HIDDEN, [])).text


def test_numbers_and_reasons() -> None:
    assert number(0.123456) == "0.1235"
    assert number(-0.00001) == "0.0000"
    page = number(None, 'no "test" split')
    assert page == '<span title="no &quot;test&quot; split">–</span>'
    assert number(None) == "–"


def test_long_tables_and_names_are_cut() -> None:
    page = Page(table(["a", "b"], "lr", [[f"row {i}", i] for i in range(1000)]))
    assert len(page.tables[0]) == 21
    assert page.text.endswith("… and 980 more rows")
    (_, (cell,)) = Page(table(["a"], "l", [["x" * 5000]])).tables[0]
    assert len(cell) == 80


def test_notes_are_folded() -> None:
    assert notes([]) == ""
    assert Page(notes(["a", "b"])).text == "2 notesab"
    assert Page(details("<more>", Markup("<b>x</b>"))).text == "<more>x"
