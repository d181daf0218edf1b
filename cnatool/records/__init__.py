"""Typed records of a store's attribute, and checks of their consistency."""
