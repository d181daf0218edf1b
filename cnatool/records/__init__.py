"""Typed records of what a store says about itself, and the checks of their consistency."""
