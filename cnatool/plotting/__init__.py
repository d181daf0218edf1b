"""Figures of scores, layers and studies, drawn with Altair."""
