"""Learn from the out-of-fold predictions of several runs."""
