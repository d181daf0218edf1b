"""Recorders: stores written while a network runs in its own framework.

One module a framework, which is imported only when a recorder is used.
"""
