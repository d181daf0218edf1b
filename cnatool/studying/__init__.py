"""Many networks: studies, trajectories over training, landscapes."""
