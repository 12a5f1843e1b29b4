"""Charts as plain values, which a template writes as SVG: positions, labels, and the same numbers as a table. Pure."""
