"""Measure at the start what is fastest on this device: memory format, images at once, compilation."""
