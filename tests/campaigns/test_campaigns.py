"""Every campaign, small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from campaigns.campaign import FAILED, rounds
from campaigns.campaigns import CAMPAIGNS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_nothing_is_lost(tmp_path: Path, name: str) -> None:
    campaign = CAMPAIGNS[name]
    with campaign.prepared(tmp_path) as attack:
        done = list(rounds(name, attack, iter(range(campaign.small))))
    assert len(done) == campaign.small
    assert not [each for each in done if each.result == FAILED]
