"""Rules of layers that exported graphs and recorded networks share."""
