"""A training run in memory: how it is set up, its state, one step, and its scores."""
