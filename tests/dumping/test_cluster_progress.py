from __future__ import annotations

from cnatool.dumping.cluster_progress import Findings


def test_each_kind_of_note_is_shown_once() -> None:
    findings = Findings()
    findings.add("part 10 of 12", ["NaN in 3 samples, first train a.png", "labels go from 0 to 9"])
    findings.add("part 2 of 12", ["NaN in 1 sample, first train b.png", "labels go from 0 to 9"])
    findings.add("part 3 of 12", ["something else"])
    findings.add("part 4 of 12", [])
    findings.add("part 11 of 12", ["NaN in 2 samples, first test a.png"])
    assert [*findings.notes()] == [
        "part 2 of 12: NaN in 1 sample, first train b.png (likewise 2 other parts)",
        "labels go from 0 to 9",
        "something else",
    ]
