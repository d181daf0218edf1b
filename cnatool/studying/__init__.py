"""Many networks: stores scored into one frame, and measures correlated over it.

METRICS.md, section "Evaluation of measures over many networks".
"""
