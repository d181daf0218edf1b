"""Statistics over networks."""
