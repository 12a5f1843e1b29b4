"""Facts about clouds, GPUs and prices by their names, without asking anybody."""
