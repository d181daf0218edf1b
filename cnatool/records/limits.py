"""What integers and digests in a store's attribute can be."""

from __future__ import annotations

import re

# Integers in JSON are exact up to here.
LARGEST = 1 << 53
SHA256 = re.compile(r"[0-9a-fA-F]{64}")
