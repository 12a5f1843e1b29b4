"""Checks of images before a launch (counts, findings, near-duplicates), and the job file written for them."""
