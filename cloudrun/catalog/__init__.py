"""What is known of clouds, GPUs and prices by their names, without asking anybody."""
