"""Preprocessing: scale, mean, standard deviation, layout, and the files that describe them."""
