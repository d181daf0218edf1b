"""The store: the one thing that passes between dumping and scoring."""
