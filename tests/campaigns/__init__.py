"""Attacks from outside, repeated as often as wanted: ``python tests/campaigns NAME --count N``."""
