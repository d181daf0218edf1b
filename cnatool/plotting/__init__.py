"""Figures drawn with Altair."""
