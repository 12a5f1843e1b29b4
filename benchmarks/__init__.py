"""Measurements behind docs/benchmarks.md; each prints the lines that stand there."""
