"""Measurements behind docs/benchmarks.md; each program prints its lines of that page."""
