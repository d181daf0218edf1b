"""Tables where the terminal is narrower than they are."""

from __future__ import annotations

import re

import pytest

from cnatool.cli.tables import print_table


@pytest.mark.parametrize("width", [20, 40, 60, 200])
def test_numbers_are_never_cut(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    cells = ["-9484.7612 … -8681.7234", "123456789.0123", "-0.5000"]
    columns = [("layer", "left"), ("from … to", "right"), ("z", "right"), ("c", "right")]
    print_table(columns, [["a/very/long/name/of/a/layer/in/some/block", *cells]])  # type: ignore[arg-type]
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    for cell in cells:
        assert shown.count(cell) == 1
    assert "from … to" in shown
    assert "layer" in shown
