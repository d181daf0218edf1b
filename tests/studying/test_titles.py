"""Titles of the columns of a study."""

from __future__ import annotations

import pytest

from cnatool.studying.titles import measure_title


@pytest.mark.parametrize(
    ("column", "title"),
    [
        ("cna_margin", "CNA-M"),
        ("test.cna", "CNA (test)"),
        ("train.cna.pearson", "Pearson CNA (train)"),
        ("test.cna.minibatches", "CNA of minibatches (test)"),
        ("test.cna.other", "test.cna.other"),
        ("sharpness", "sharpness"),
    ],
)
def test_titles_of_measures(column: str, title: str) -> None:
    assert measure_title(column) == title
