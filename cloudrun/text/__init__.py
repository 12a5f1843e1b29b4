"""How numbers, names and progress are written."""
