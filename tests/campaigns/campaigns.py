"""The table of campaigns: a new one is a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from campaigns.disks import DISKS
from campaigns.kills import KILLS
from campaigns.readers import READERS
from campaigns.threads import THREADS

if TYPE_CHECKING:
    from campaigns.campaign import Campaign

__all__ = ["CAMPAIGNS"]

CAMPAIGNS: dict[str, Campaign] = {
    "kills": KILLS,
    "disks": DISKS,
    "readers": READERS,
    "threads": THREADS,
}
