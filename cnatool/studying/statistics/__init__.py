"""Statistics of networks: weighted coefficients, conditional mutual information, curves."""
