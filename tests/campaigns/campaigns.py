"""The table of campaigns: a new one is a row."""

from __future__ import annotations

from campaigns.campaign import Campaign
from campaigns.data import broken_data
from campaigns.flips import flips
from campaigns.models import broken_models
from campaigns.settings import odd_settings
from campaigns.stores import odd_stores

__all__ = ["CAMPAIGNS"]

CAMPAIGNS: dict[str, Campaign] = {
    "flips": Campaign(
        "damaged files of stores and kept results: no number changes unseen", flips, 80
    ),
    "models": Campaign("broken models: refused, or dumped right", broken_models, 60),
    "data": Campaign("broken data: refused, or read as others read them", broken_data, 340),
    "settings": Campaign("odd options: refused, or a result", odd_settings, 60),
    "stores": Campaign("stores that say odd things: refused, or read", odd_stores, 60),
}
