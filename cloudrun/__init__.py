"""Rent a GPU for one training job, bring the results home, and end the bill."""
