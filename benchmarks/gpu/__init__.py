"""Measure what only a GPU can tell about the trainer, in parts of which each writes its figures at once."""
