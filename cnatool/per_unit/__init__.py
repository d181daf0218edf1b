"""What single units of a network do: moments, quantiles, dead units, classes, samples."""
