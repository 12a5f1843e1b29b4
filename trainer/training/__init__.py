"""The order of a run, from the first image to `summary.json`."""
