"""The table of campaigns: a new one is a row."""

from __future__ import annotations

from campaigns.campaign import Campaign
from campaigns.data import broken_data
from campaigns.disks import failing_disks
from campaigns.flips import flips
from campaigns.kills import killed_commands
from campaigns.merging import merged_parts
from campaigns.models import broken_models
from campaigns.readers import read_while_written
from campaigns.settings import odd_settings
from campaigns.stores import odd_stores
from campaigns.threads import used_in_threads

CAMPAIGNS: dict[str, Campaign] = {
    "kills": Campaign(
        "commands that write, killed at any moment, then continued: nothing committed is lost",
        killed_commands,
        3,
    ),
    "disks": Campaign(
        "commands that write, on disks that are full or fail: one message, and nothing is lost",
        failing_disks,
        3,
    ),
    "readers": Campaign(
        "readers beside a writer: whole commits, in order, and no report of damage",
        read_while_written,
        2,
    ),
    "merges": Campaign(
        "parts, killed and resumed, merged in any order: the store of one process, or a refusal",
        merged_parts,
        2,
    ),
    "threads": Campaign(
        "first uses in several threads of a fresh process: no crash, and the results of one thread",
        used_in_threads,
        3,
    ),
    "flips": Campaign(
        "damaged files of stores and kept results: no number changes unseen", flips, 8
    ),
    "models": Campaign("broken models: refused, or dumped correctly", broken_models, 30),
    "data": Campaign("broken data: refused, or read as other readers read them", broken_data, 160),
    "settings": Campaign("odd options: refused, or a result", odd_settings, 20),
    "stores": Campaign("stores with odd metadata: refused, or read", odd_stores, 12),
}
