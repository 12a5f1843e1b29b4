"""Everything that only a GPU can tell about the trainer, in parts that each leave their figures behind at once."""
