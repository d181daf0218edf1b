"""Limits of integers and digests in a store's attribute."""

from __future__ import annotations

import re

# Largest integer that is exact in JSON.
LARGEST = 1 << 53
SHA256 = re.compile(r"[0-9a-fA-F]{64}")
