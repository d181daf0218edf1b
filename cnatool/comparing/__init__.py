"""Two stores of one network, compared."""
