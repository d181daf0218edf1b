"""Every campaign, small."""

from __future__ import annotations

from pathlib import Path

import pytest

from campaigns.broken import BROKEN, RESULTS
from campaigns.campaign import FAILED
from campaigns.campaigns import CAMPAIGNS
from campaigns.made import KEPT
from campaigns.rounds import rounds


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder for the stores that several campaigns share, which the first one makes."""
    return str(tmp_path_factory.mktemp("stores"))


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_nothing_is_lost(
    tmp_path: Path, stores: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEPT, stores)
    small = CAMPAIGNS[name].small
    done = list(rounds(name, CAMPAIGNS[name], iter(range(small)), folder=tmp_path))
    assert len(done) == small
    assert not [each for each in done if each.result == FAILED]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_bad_round_does_not_end_a_campaign(tmp_path: Path, jobs: int) -> None:
    record = tmp_path / "record.jsonl"
    numbers = range(len(RESULTS))
    done = list(rounds("broken", BROKEN, iter(numbers), folder=tmp_path, record=record, jobs=jobs))
    assert sorted(each.number for each in done) == list(numbers)
    for each in done:
        result, error = RESULTS[each.number]
        assert each.result == result
        assert error in each.error
    # What is recorded is not repeated.
    nothing = tmp_path / "missing"
    again = rounds("broken", BROKEN, iter(numbers), folder=nothing, record=record)
    assert sorted(again, key=lambda each: each.number) == sorted(done, key=lambda each: each.number)
