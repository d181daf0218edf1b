"""α, β, CNA, CNA-A, margins and norms: pure functions on NumPy arrays."""
