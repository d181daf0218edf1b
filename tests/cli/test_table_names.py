"""Long names of tensors in tables."""

from __future__ import annotations

from cnatool.cli.tables.names import shorten_names


def test_long_names_keep_their_ends() -> None:
    prefix = "If_0/then_branch/decoder/" * 5
    shown = shorten_names([f"{prefix}rnn/a", f"{prefix}rnn/b", "fc1"])
    assert shown["fc1"] == "fc1"
    assert shown[f"{prefix}rnn/a"].startswith("…")
    assert shown[f"{prefix}rnn/a"].endswith("/decoder/rnn/a")
    assert {len(text) for text in shown.values()} == {3, 60}


def test_shortened_names_stay_different() -> None:
    end = "/" + "x" * 80
    names = ["a" * 70 + end, "b" * 70 + end, "c" * 5 + "y" * 200, "d" * 5 + "y" * 200]
    names += ["…" + "z" * 59, "z" * 90]
    shown = shorten_names(names)
    assert shown.keys() == set(names)
    assert len(set(shown.values())) == len(names)
    assert len(shown[names[0]]) == 90
    assert shown[names[2]] == names[2]
